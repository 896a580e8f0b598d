import threading

from lumora.studio.workshop import Kept


def test_kept__makes_each_value_once_whoever_asks():
    kept, made, another = Kept(2), [], threading.Event()

    def make():
        if made:
            another.set()
        made.append(1)
        another.wait(0.5)  # for others to come, which would end it at once

    threads = [threading.Thread(target=lambda: kept.get("a", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_kept__lets_go_of_what_was_used_longest_ago():
    kept, made = Kept(2), []
    for key in "abaca":
        kept.get(key, lambda key=key: made.append(key))
    kept.get("b", lambda: made.append("b"))
    assert made == ["a", "b", "c", "b"]
