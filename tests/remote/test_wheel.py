"""The wheel that is installed on another machine."""

import io
import zipfile

from tdiff import __version__
from tdiff.remote import install, wheel


def test_the_wheel_is_this_version_with_what_is_shipped_and_is_the_same_each_time():
    made = wheel.build()
    assert made.sha256 == wheel.build.__wrapped__().sha256
    assert made.name == f"tdiff_lm-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
        names = archive.namelist()
        about = archive.read(f"tdiff_lm-{__version__}.dist-info/METADATA").decode()
    assert len(names) == len(set(names))
    assert {
        "tdiff/cli.py",
        "tdiff/remote/far.py",
        "tdiff/guide/training.md",
        "tdiff/_data/configs/shakespeare.toml",
    } <= {*names}
    assert "tdiff/_data/checkpoints/shakespeare/model/model.safetensors" in names
    assert f"\nVersion: {__version__}\n" in about
    assert "\nRequires-Dist: torch" in about
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]


def test_the_index_of_torch_suits_the_machine():
    assert install.index_options("Linux", [], "") == ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]
    assert install.index_options("Linux", ["H200"], "13.0") == []
    assert install.index_options("Linux", ["T4"], "12.2")[1].endswith("/cu126")
    assert install.index_options("Darwin", [], "") == []
