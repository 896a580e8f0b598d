"""The cache of decoded pictures: exact, whole whatever happens, within its budget. Kills and races are real ones."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.data.pixels import counted, folder_of_pictures, same
from tests.processes import in_a_process, reachable_folder

from lumora.data import entries
from lumora.data.cache import Cache
from lumora.data.dataset import Pictures
from lumora.data.entries import Entry
from lumora.data.loader import Loader
from lumora.data.transforms import RandomResizedCrop, Resize
from lumora.errors import DataError

FORK = multiprocessing.get_context("fork") if sys.platform != "win32" else None
NEEDS_FORK = pytest.mark.skipif(sys.platform == "win32", reason="processes are neither forked nor killed there")


def entry(seed=0, side=10, mask=None):
    picture = torch.randint(0, 256, (3, side, side + 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    return Entry(picture, mask, prepared=False)


def key(number):
    return f"{number:032x}"


def equal(one, other):
    return same((one.picture,), (other.picture,)) and (
        one.mask is other.mask is None or same((one.mask,), (other.mask,))
    )


def used(folder):
    """What is really there."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in (".pixels", ".part"))


@pytest.mark.parametrize(
    "mask",
    [
        None,
        torch.randint(0, 256, (10, 13), dtype=torch.uint8),
        torch.randint(0, 70_000, (10, 13), dtype=torch.int32),
        torch.randint(0, 256, (7, 5), dtype=torch.uint8),
    ],
    ids=["none", "bytes", "wide", "of another size"],
)
@pytest.mark.parametrize("interleaved", [False, True])
def test_cache__gives_back_exactly_what_was_kept(tmp_path, mask, interleaved):
    cache = Cache(tmp_path)
    for prepared in (False, True):
        kept = entry(1, 10)
        picture = kept.picture.permute(1, 2, 0).contiguous().permute(2, 0, 1) if interleaved else kept.picture
        assert cache.keep(key(prepared), Entry(picture, mask, prepared))
        for reader in (cache, Cache(tmp_path)):
            found = reader.read(key(prepared))
            assert equal(found, Entry(kept.picture, mask, prepared))
            assert found.prepared is prepared
    assert cache.read(key(9)) is None


def test_cache__holds_pictures_of_one_pixel(tmp_path):
    one = Entry(torch.tensor([1, 2, 3], dtype=torch.uint8).view(3, 1, 1), torch.zeros(1, 1, dtype=torch.uint8), False)
    Cache(tmp_path).keep(key(1), one)
    assert equal(Cache(tmp_path).read(key(1)), one)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("folder", ["disk", None])
def test_cache__lets_every_picture_be_decoded_once(tmp_path, workers, folder):
    samples = counted(folder_of_pictures(tmp_path / "data"), tmp_path / "notes")
    cache = Cache(tmp_path / folder if folder else None, budget=10**6)
    for loader in (Loader(Pictures(samples, RandomResizedCrop(16), cache=cache), 2, workers=workers) for _ in range(2)):
        for _ in range(2):
            list(loader)
    assert sorted((tmp_path / "notes").read_text().split()) == [sample.key for sample in samples]
    assert cache.state().left_out == 0
    assert cache.state().used == used(cache.folder) > 0


def test_cache__knows_when_a_file_changes(tmp_path):
    samples = folder_of_pictures(tmp_path / "data", count=2, masks=True)
    cache = Cache(tmp_path / "cache")

    def item():
        return Pictures(samples[:1], Resize(16), cache=cache)[0]

    first = item()
    samples[0].path.write_bytes(samples[1].path.read_bytes())
    mask = samples[0].mask_content.path
    with pytest.raises(DataError):
        item()  # another picture with the old mask: they differ in size
    mask.write_bytes(samples[1].mask_content.path.read_bytes())
    assert same(item(), Pictures(samples[1:], Resize(16))[0])
    assert not same(item(), first)


def test_cache__keeps_what_is_fixed_as_done_where_that_is_smaller(tmp_path):
    samples = counted(folder_of_pictures(tmp_path / "data", count=3, side=60), tmp_path / "notes")
    small, large = Cache(tmp_path / "small"), Cache(tmp_path / "large")
    for cache, size in ((small, 16), (large, 200)):
        for _ in range(2):
            pictures = Pictures(samples, Resize((size, size)), cache=cache)
            assert same([pictures[i] for i in range(3)], [Pictures(samples, Resize((size, size)))[i] for i in range(3)])
    assert small.state().used == 3 * (64 + 3 * 16 * 16)
    assert large.state().used == sum(64 + s.picture().numel() for s in samples)


def test_cache__of_one_transform_is_not_taken_for_another(tmp_path):
    samples = folder_of_pictures(tmp_path / "data", count=1)
    cache = Cache(tmp_path / "cache")
    for size in (16, 17, 16):
        for interpolation in ("bilinear", "nearest"):
            step = Resize((size, size), interpolation)
            assert same(Pictures(samples, step, cache=cache)[0], Pictures(samples, step)[0])


def test_cache__stays_within_its_budget_and_says_what_did_not_fit(tmp_path):
    size = entry().size
    cache = Cache(tmp_path, budget=3 * size + size // 2)
    assert [cache.keep(key(i), entry(i)) for i in range(5)] == [True, True, True, False, False]
    assert not cache.keep(key(3), entry(3))  # asked again, and counted once
    state = cache.state()
    assert (state.used, state.left_out, state.left_out_bytes) == (3 * size, 2, 2 * size)
    assert used(tmp_path) == 3 * size
    assert "2 pictures did not fit" in str(state)
    assert f"{5 * size:,} bytes" in str(state)
    larger = Cache(tmp_path, budget=5 * size)
    assert all(larger.keep(key(i), entry(i)) for i in range(5))
    assert "did not fit" not in str(larger.state())


def test_cache__with_workers_says_what_none_of_them_could_keep(tmp_path):
    samples = folder_of_pictures(tmp_path / "data", count=6)
    sizes = [64 + sample.picture().numel() for sample in samples]
    cache = Cache(tmp_path / "cache", budget=sum(sizes) // 2)
    loader = Loader(Pictures(samples, RandomResizedCrop(16), cache=cache), 1, workers=2)
    for _ in range(3):
        list(loader)
    state = cache.state()
    assert used(cache.folder) == state.used <= cache.budget
    assert 0 < state.left_out < 6
    assert state.used + state.left_out_bytes == sum(sizes)


def test_cache__with_a_smaller_budget_forgets_what_was_not_read_for_longest(tmp_path):
    size = entry().size
    cache = Cache(tmp_path, budget=10 * size)
    for i in range(4):
        cache.keep(key(i), entry(i))
        os.utime(cache._path(key(i)), (0, 1000 + i))
    assert Cache(tmp_path, budget=10 * size).read(key(0)) is not None  # now the youngest
    smaller = Cache(tmp_path, budget=2 * size)
    assert [smaller.read(key(i)) is not None for i in range(4)] == [True, False, False, True]
    assert smaller.state().used == used(tmp_path) == 2 * size


def test_cache__gives_the_room_of_what_nobody_read_for_a_day(tmp_path):
    size = entry().size
    cache = Cache(tmp_path, budget=2 * size)
    for i in range(2):
        cache.keep(key(i), entry(i))
    day_and_hour = time.time() - 25 * 3600
    os.utime(cache._path(key(0)), (day_and_hour, day_and_hour))
    assert [cache.keep(key(i), entry(i)) for i in (2, 3)] == [True, False]
    assert [cache.read(key(i)) is not None for i in range(4)] == [False, True, True, False]
    assert used(tmp_path) == 2 * size


def test_cache__leaves_files_of_others_in_its_folder_alone(tmp_path):
    others = [tmp_path / "ab" / "picture.pixels", tmp_path / "ab" / "x.part", tmp_path / "cd.txt"]
    others[0].parent.mkdir()
    for other in others:
        other.write_text("mine")
    cache = Cache(tmp_path, budget=0)
    assert cache.state().used == 0
    assert not cache.keep(key(1), entry())
    assert all(other.read_text() == "mine" for other in others)


def test_cache__is_found_by_its_address_in_another_process(tmp_path):
    cache = Cache(budget=10**6)

    def keep_and_read():
        other = Cache.at(cache.address())
        other.keep(key(1), entry(1))
        other.keep(key(2), entry(2, side=2000))
        return equal(other.read(key(0)), entry(0)), os.getpid() != here

    here = os.getpid()
    cache.keep(key(0), entry(0))
    assert in_a_process(keep_and_read) == "(True, True)"
    assert equal(cache.read(key(1)), entry(1))
    assert cache.state().left_out == 1


def test_cache__in_memory_is_gone_with_the_cache():
    cache = Cache(budget=10**6)
    cache.keep(key(0), entry())
    folder = cache.folder
    assert folder.exists()
    del cache
    assert not folder.exists()


@pytest.mark.slow
def test_cache__in_memory_is_gone_when_the_program_ends():
    script = """
import torch
from lumora.data.cache import Cache
from lumora.data.entries import Entry
cache = Cache(budget=10**6)
cache.keep("0" * 32, Entry(torch.zeros(3, 9, 9, dtype=torch.uint8), None, False))
print(cache.folder)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    folder = Path(done.stdout.strip())
    assert not folder.exists()
    assert folder.parent.exists()


@NEEDS_FORK
def test_cache__in_memory_of_a_killed_program_is_removed_by_the_next():
    receiver, sender = FORK.Pipe()

    def die():
        cache = Cache(budget=10**6)
        sender.send(cache.folder)
        os.kill(os.getpid(), signal.SIGKILL)

    process = FORK.Process(target=die)
    process.start()
    folder = receiver.recv()
    process.join()
    assert folder.exists()
    alive = Cache(budget=10**6)
    assert not folder.exists()
    Cache(budget=10**6)
    assert alive.folder.exists()


def write(folder, budget, first, last, rounds, ready=None):
    """Keep pictures in a process of its own, and look at those that are there already."""
    torch.set_num_threads(1)
    cache = Cache(folder, budget)
    if ready is not None:
        ready.set()
    for _ in range(rounds):
        for i in range(first, last):
            found = cache.read(key(i))
            if found is not None:
                assert equal(found, big(i)), i
            cache.keep(key(i), big(i))


def started(*arguments):
    process = FORK.Process(target=write, args=arguments)
    process.start()
    return process


def big(seed):
    return entry(seed, 300)


@NEEDS_FORK
def test_cache__survives_being_killed_while_it_is_written(tmp_path):
    processes = [started(tmp_path, 10**9, 0, 100_000, 1) for _ in range(4)]
    for process in processes:  # one after the other, while those left go on
        before = len(list(tmp_path.rglob("*.pixels")))
        while len(list(tmp_path.rglob("*.pixels"))) < before + 20:
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    names = sorted(path.stem for path in tmp_path.rglob("*.pixels"))
    cache = Cache(tmp_path, 10**9)
    assert not list(tmp_path.rglob("*.part"))
    assert cache.state().used == used(tmp_path)
    assert len(names) >= 80
    for name in names:
        assert equal(cache.read(name), big(int(name, 16)))
    assert cache.keep(key(200_000), big(200_000))


@NEEDS_FORK
def test_cache__killed_in_the_middle_of_a_file_leaves_nothing_that_is_read(tmp_path):
    def die():
        whole = entries.write

        def half(file, entry):
            whole(file, entry)
            file.flush()
            file.truncate(file.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

        entries.write = half
        write(tmp_path, 10**9, 0, 1, 1)

    process = FORK.Process(target=die)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.rglob("*.part"))) == 1
    cache = Cache(tmp_path, 10**9)
    assert cache.read(key(0)) is None
    assert used(tmp_path) == cache.state().used == 0
    assert cache.keep(key(0), big(0))
    assert equal(cache.read(key(0)), big(0))


@NEEDS_FORK
def test_cache__serves_several_processes_at_once(tmp_path):
    size = big(0).size
    processes = [started(tmp_path, 30 * size, first, first + 40, 2) for first in (0, 0, 20)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    cache = Cache(tmp_path, 30 * size)
    assert used(tmp_path) == cache.state().used == 30 * size
    for path in tmp_path.rglob("*.pixels"):
        assert equal(cache.read(path.stem), big(int(path.stem, 16)))


@NEEDS_FORK
def test_cache__starting_while_another_writes_leaves_its_files_alone(tmp_path):
    process = started(tmp_path, 10**9, 0, 100, 1)
    while process.is_alive():
        Cache(tmp_path, 10**9)
    assert process.exitcode == 0
    assert len(list(tmp_path.rglob("*.pixels"))) == 100
    assert Cache(tmp_path, 10**9).state().used == used(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "lost", "empty", "other"])
def test_cache__removes_what_a_crash_of_the_machine_damaged(tmp_path, damage, monkeypatch):
    Cache(tmp_path).keep(key(1), entry(1))
    (path,) = tmp_path.rglob("*.pixels")
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[:-10],
            "lost": content[:100] + bytes(len(content) - 100),
            "empty": b"",
            "other": b"x" * len(content),
        }[damage]
    )
    monkeypatch.setattr(entries, "_boot", [b"\1" * 16])  # the machine was started anew
    cache = Cache(tmp_path)
    assert cache.read(key(1)) is None
    assert cache.keep(key(1), entry(1))
    assert equal(cache.read(key(1)), entry(1))
    assert cache.state().used == used(tmp_path) == entry(1).size


@pytest.mark.parametrize("boot", [b"\1" * 16, b""], ids=["known", "unknown"])
def test_cache__checks_once_what_was_written_before_the_machine_started(tmp_path, monkeypatch, boot):
    Cache(tmp_path).keep(key(1), entry(1))
    monkeypatch.setattr(entries, "_boot", [boot])
    checks = []
    real = entries.zlib.crc32
    monkeypatch.setattr(entries.zlib, "crc32", lambda *data: checks.append(1) or real(*data))
    cache = Cache(tmp_path)
    for _ in range(3):
        assert equal(cache.read(key(1)), entry(1))
    assert len(checks) == 1


@NEEDS_FORK
def test_cache__says_where_it_cannot_be():
    with reachable_folder() as folder:
        answer = in_a_process(lambda: Cache(folder / "cache"), without_rights=True)
    assert answer.startswith(f"DataError: Decoded pictures cannot be kept in {folder / 'cache'}: Permission denied.")
    assert "Choose another folder" in answer


def test_cache__says_what_is_wrong_with_its_place_or_budget(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Choose another folder"):
        Cache(tmp_path / "file" / "cache")
    with pytest.raises(DataError, match="number of bytes"):
        Cache(tmp_path, budget=-1)
