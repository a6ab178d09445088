import sys

from mobilevideogpt.serving.answering import stdout_copied_to


def test_what_is_printed_is_in_the_file_too(tmp_path, capsys):
    with stdout_copied_to(tmp_path / "answers.txt"):
        print("squats - good form", flush=True)
        print("a warning", file=sys.stderr)
    print("after it")
    assert (tmp_path / "answers.txt").read_text() == "squats - good form\n"
    assert capsys.readouterr().out == "squats - good form\nafter it\n"
