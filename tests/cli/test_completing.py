"""What shells are told, and what bash makes of it."""

import shutil
import subprocess

import pytest
from tests.cli.terminal import PROGRAM, environment

from lumora.cli.completing import settings
from lumora.training import parse_asked
from lumora.training.schema.keys import keys


def words(incomplete):
    return [word for word, _ in settings(incomplete)]


def test_settings__are_the_recipes_keys():
    assert words("") == [f"{name}=" for name in keys()]
    assert words("pictures.") == [f"{name}=" for name in keys() if name.startswith("pictures.")]
    assert words("nothing") == words("lora.rank=8") == []


def test_settings__of_one_key_are_values_that_a_recipe_takes():
    assert (
        words("data.skip_bad") == words("data.skip_bad=") == [f"data.skip_bad={v}" for v in ("true", "false", "auto")]
    )
    for name in keys():
        found = words(f"{name}=")
        assert len(found) > 1  # so that no blank comes after `=`
        for word in found:
            key, _, value = word.partition("=")
            if value:
                parse_asked({key: value})


def completed(line, shell="bash"):
    """What the program answers when Tab is pressed at the end of a line."""
    asks = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }
    program = [
        *PROGRAM[:2],
        "import sys, atexit\n"
        "atexit.register(lambda: print(sorted({'torch', 'numpy'} & set(sys.modules)), file=sys.stderr))\n"
        "sys.argv[0] = 'lumora'\n"
        "from lumora.cli import main; main()",
    ]
    env = environment(_LUMORA_COMPLETE=f"complete_{shell}", **asks[shell])
    done = subprocess.run(program, capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion__knows_commands_options_and_keys_without_torch(shell):
    assert "train" in completed("lumora tr", shell)
    assert "--max-time" in completed("lumora train x --max", shell)
    text = completed("lumora train x --set train.sch", shell)
    assert "train.schedule=cosine" in text
    assert ("how the rate falls" in text) == (shell != "bash")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_completion__script_works_in_bash(tmp_path):
    lumora = tmp_path / "lumora"
    code = 'import sys; sys.argv[0] = "lumora"; from lumora.cli import main; main()'
    lumora.write_text(f"#!/bin/sh\nexec '{PROGRAM[0]}' -c '{code}' \"$@\"\n")
    lumora.chmod(0o755)
    script = (
        f"PATH={tmp_path}:$PATH\n"
        'eval "$(_LUMORA_COMPLETE=source_bash lumora)"\n'
        "COMP_WORDS=(lumora train x --set lora.r); COMP_CWORD=4; _lumora_completion lumora\n"
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment())
    assert done.stdout.split() == ["lora.r=", "lora.rslora=", "lora.rank_pattern="], done.stderr
