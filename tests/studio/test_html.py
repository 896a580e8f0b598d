from lumora.studio.html import notice


def test_notice__of_a_name_that_is_no_text_can_be_sent():
    assert "caf?.png" in notice("caf\udce9.png").encode().decode()


def test_notice__of_nothing_is_nothing():
    assert notice("") == ""
