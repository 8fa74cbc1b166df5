"""The values of `--on`, and the addresses of runs."""

import pytest

from tdiff.errors import TdiffError
from tdiff.remote import place, slurm_job


def test_the_forms_of_on():
    assert place.parse("slurm://") == place.Place(None, True)
    assert place.parse("slurm://gpu").partition == "gpu"
    far = place.parse("ssh://me@gpu01:2222/~/my%20runs/")
    assert not far.slurm
    assert far.address is not None
    assert (far.address.path, far.address.at_home, far.address.port) == ("my runs", True, 2222)
    assert place.parse("slurm+ssh://login/scratch").slurm


@pytest.mark.parametrize(
    "text",
    [
        "gpu01",
        "ssh://-oProxyCommand=x/d",
        "ssh://me@-h/d",
        "ssh://-l@h/d",
        "ssh://h",
        "ssh://h/a/../b",
        "slurm://a b",
        "ssh://h/slurm:12",
        "slurm+ssh://-h/d",
        "ssh://h;x/d",
        "slurm://-x",
        "ssh://h/%00",
    ],
)
def test_what_ssh_or_a_shell_could_misread_is_refused(text):
    with pytest.raises(TdiffError):
        place.parse(text)


@pytest.mark.parametrize(
    "folder", ["ssh://me@h:22/a b/it's", "ssh://h/~/runs", "ssh://[::1]/d/$HOME", "ssh://h/~/a/checkpoints/b"]
)
def test_the_address_of_a_run_leads_back_to_its_folder(folder):
    address = place.folder(folder)
    assert place.split_run(place.of_run(address, "my tale")) == (address, "my tale")


def test_a_run_of_another_layout_is_refused():
    for text in ("ssh://h/runs/tale", "ssh://h/checkpoints/tale", "ssh://h/a/checkpoints/"):
        with pytest.raises(TdiffError, match="checkpoints/RUN"):
            place.split_run(text)


@pytest.mark.parametrize(
    "word",
    [
        "time=1:00\nrm -rf /",
        "time='1'",
        "comment=a b",
        "TIME=1",
        "wrap=x",
        "output=/x",
        "array=1-3",
        "signal=USR2@9",
        "requeue",
        "comment=$(x)",
        "x=`y`",
        "a=b#c",
        "",
    ],
)
def test_options_of_sbatch_that_would_change_the_script_are_refused(word):
    with pytest.raises(TdiffError, match="--sbatch"):
        slurm_job.options([word])


def test_options_of_sbatch_may_have_dashes_and_a_partition():
    assert slurm_job.options(["--time=1-04:00:00", "gpus=2", "exclusive"], "gpu") == (
        *(("partition", "gpu"), ("time", "1-04:00:00"), ("gpus", "2"), ("exclusive", "")),
    )
