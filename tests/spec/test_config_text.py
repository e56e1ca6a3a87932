"""A stored configuration is read back as it was written, or refused with what is wrong."""

import pytest
import yaml

from sweeper.spec import config_text
from sweeper.types import InputError

CONFIG = {"format": 1, "name": "d", "question": {"train": {"steps": 24}}, "studies": {}, "trainer": {"width": 4}}
PLAIN = yaml.safe_dump(CONFIG)  # as earlier versions wrote it


def test_what_was_written_is_read(tmp_path):
    path = tmp_path / "config.yaml"
    for text in (config_text.dump(CONFIG), PLAIN, config_text.dump(CONFIG).partition("\n")[2]):
        path.write_text(text)
        assert config_text.load(path) == yaml.safe_load(text) == CONFIG


WRONG = {
    b"": "it is empty",
    b"# nothing\n": "it is empty",
    b"\xff\xfe\x00": "it is not text in UTF-8",
    b"a: [1\nb": "it is not YAML",
    b"when: 2024-99-99\n": "it is not YAML",
    b"- 1\n": "it is not a mapping",
    b"just text": "it is not a mapping",
    b"format: 1\n": "it has no question and no studies and no trainer",
    PLAIN.replace("studies: {}", "studies: null").encode(): "it has no studies",
}


@pytest.mark.parametrize("content", WRONG)
def test_what_is_wrong_is_said(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        config_text.load(path)
    assert str(caught.value) == (
        f"config={path}: {WRONG[content]}. Restore it from a backup, or start over with fresh=true"
    )


def test_a_missing_file_and_a_folder_are_said(tmp_path):
    with pytest.raises(InputError, match="missing, so the model and data of the results beside it are unknown"):
        config_text.load(tmp_path / "config.yaml")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        config_text.load(tmp_path)


@pytest.mark.parametrize("other", [0, 2, "1", None, [1]])
def test_another_format_is_refused(tmp_path, other):
    path = tmp_path / "config.yaml"
    path.write_text(config_text.dump({**CONFIG, "format": other}))
    with pytest.raises(InputError, match=r"config\.yaml: format.*: this version reads format 1 only\. Use the version"):
        config_text.load(path)


def test_every_cut_and_every_flipped_byte_is_found(tmp_path):
    path, data = tmp_path / "config.yaml", config_text.dump(CONFIG).encode()
    head = len(config_text.HEAD)  # without it the file is one of an earlier version
    for place in range(head, len(data)):
        for damaged in (data[:place], data[:place] + bytes([data[place] ^ 0x11]) + data[place + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(InputError, match="config"):
                config_text.load(path)
