"""What is found on another machine, and what it means for torch."""

from tdiff.remote.install import Found
from tdiff.remote.link import Link
from tdiff.watch.sources.address import Address
from tests.support.far import sh_as_ssh as sh_as_ssh

SMI = """\
#!/bin/sh
case $1 in
--query-gpu=*) printf 'NVIDIA H200, 143771 MiB\\nNVIDIA H200, 143771 MiB\\n' ;;
*) echo '| NVIDIA-SMI 570.86.15    Driver Version: 570.86.15    CUDA Version: 12.8     |' ;;
esac
"""


def test_the_gpus_are_those_that_nvidia_smi_lists(tmp_path, sh_as_ssh):
    program = tmp_path / "far-bin/nvidia-smi"
    program.write_text(SMI)
    program.chmod(0o755)
    with Link(Address("far", str(tmp_path))) as link:
        gpus = link.ask("gpus")
        assert (gpus["names"], gpus["cuda"]) == (["NVIDIA H200, 143771 MiB"] * 2, "12.8")
        program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate' >&2\nexit 9\n")
        assert link.ask("gpus")["names"] == []


def test_gpus_that_torch_cannot_use_are_reported():
    usable = Found("3.12.1", "2.9.0", "12.6", ["H200", "H200"], seen=["H200", "H200"], driver="12.8")
    assert usable.lines() == ["Python 3.12.1, torch 2.9.0 (CUDA 12.6), 2 x H200"]
    unusable = Found("3.12.1", "2.9.0", "13.0", seen=["T4"], driver="11.4").lines()
    assert unusable[0] == "Python 3.12.1, torch 2.9.0 (CUDA 13.0), no GPU"
    assert unusable[1].startswith("nvidia-smi lists T4 with CUDA 11.4, which this torch cannot use")
