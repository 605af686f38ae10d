from privacy_toolkit.evidence.files import relative_files


def test_files_of_a_folder_are_named_relative_to_it(tmp_path):
    for name in ("a", "earlier/1/b"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(relative_files(tmp_path)) == ["a", "earlier/1/b"]
