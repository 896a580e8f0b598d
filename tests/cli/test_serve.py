"""What `lumora serve` says of its arguments; that it serves is tested in `tests/serve`."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--memory", "much"), "'much' is no size"),
        (("--max-body", "-1MB"), "'-1MB' is no size"),
        (("--formats", "png,gif"), "formats has gif"),
        (("--deadline", "0"), "deadline is 0"),
        (("--host", "0.0.0.0"), "there is no token"),
        (("--token-file", "nowhere"), "nowhere cannot be read"),
        (("--deadline", "inf"), "deadline is inf"),
        (("--device", "nowhere"), "'nowhere' cannot be used here"),
    ],
)
def test_serve__refuses_what_cannot_be(lumora, tmp_path, monkeypatch, arguments, reason):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LUMORA_TOKENS", raising=False)
    ended = lumora("serve", "bundles", *arguments)
    assert (ended.code, reason in ended.err) == (2, True)


def test_serve__refuses_a_file_without_tokens_and_tokens_that_can_be_guessed(lumora, tmp_path):
    (tmp_path / "none").write_text("# nobody yet\n\n")
    assert "There is no token in" in lumora("serve", "bundles", "--token-file", tmp_path / "none").err
    (tmp_path / "short").write_text("abc\n")
    assert "fewer than 8" in lumora("serve", "bundles", "--token-file", tmp_path / "short").err


def test_serve__says_what_is_no_bundle(lumora, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    ended = lumora("serve", "empty")
    assert (ended.code, "There is no bundle in empty" in ended.err) == (1, True)
    ended = lumora("serve", "no such thing")
    assert (ended.code, "neither a folder here nor the name of a repository" in ended.err) == (1, True)
