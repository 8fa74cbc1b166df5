"""The shell functions that read the GPUs and the processes of a job, on this host and on others.

They need a POSIX sh and what the host has: `nvidia-smi`, `amd-smi` or `rocm-smi`, and /proc. They write raw text; this
package interprets it. The script answers requests, one line each on standard input, and ends when its input ends, so
that no process remains on the other host.

A request is `GPUS FIND PID...`: whether to read the GPUs (1 or 0), whether to search for the processes anew (1 or 0),
and, for each watched file, the process that is known to write it, or 0. A file without a known process belongs to the
processes that have it open for writing. Their descendants and the rest of their process groups are the job: of
`python train.py | tee log`, only tee has the file open.

A line `file PATH` before a request names the file whose processes are meant, where it is not known from the beginning.
PATH is written as `printf %b` reads it.

The answer goes to stderr, in lines that begin with a token, so that it cannot be confused with other text there:
`TOKEN begin`, then sections `TOKEN NAME STATUS` each followed by raw lines, then `TOKEN end`. The sections are:

- nvidia, apps: CSV of nvidia-smi; amd, amd-static, amd-process, rocm: JSON. STATUS is the exit status; 137 means that
  the program was killed because it did not answer within five seconds.
- host: the name of the host; clock: ticks per second, bytes per page, seconds since the host started.
- job: for each process `FILE PID TICKS THREADS PAGES START NAME`, FILE counted from 0, START in ticks since the host
  started.
- spent: what `times` says of this shell and its children.
"""

from __future__ import annotations

import secrets
import shlex

TIMEOUT = 5
"""Seconds after which a program that does not answer is killed."""
KILLED = 137
"""The exit status of such a program."""

_FUNCTIONS = """\
limit() {
    if command -v timeout >/dev/null 2>&1; then
        timeout -s KILL @TIMEOUT@ "$@" </dev/null 2>&1
        return
    fi
    "$@" </dev/null 2>&1 &
    child=$!
    { sleep @TIMEOUT@; kill -9 "$child"; } >/dev/null 2>&1 &
    guard=$!
    wait "$child" 2>/dev/null
    status=$?
    kill "$guard" 2>/dev/null
    return "$status"
}
section() {
    name=$1
    shift
    text=$(limit "$@")
    status=$?
    printf '%s\\n' "$token $name $status" "$text"
    return "$status"
}
read_nvidia() {
    fields=index,uuid,name,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw,power.limit
    form=--format=csv,noheader,nounits
    text=$(limit nvidia-smi "--query-gpu=$fields$reasons" "$form")
    status=$?
    case "$text" in *"not a valid field"*)
        reasons=
        text=$(limit nvidia-smi "--query-gpu=$fields" "$form")
        status=$?
    esac
    printf '%s\\n' "$token nvidia $status" "$text"
    [ "$status" -eq 0 ] || return
    [ "$find" = 0 ] || section apps nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory "$form"
    return 0
}
read_amd() {
    section amd amd-smi metric -u -p -t -m --json || return
    if [ "$find" = 1 ]; then
        [ "$named" ] || section amd-static amd-smi static -a --json
        named=1
        section amd-process amd-smi process --json
    fi
    return 0
}
read_rocm() {
    section rocm rocm-smi --showproductname --showuse --showmeminfo vram --showtemp --showpower --showpids --json
}
read_gpus() {
    for tool in nvidia amd rocm; do
        command -v "$tool-smi" >/dev/null 2>&1 || continue
        "read_$tool" && break
    done
}
stat_of() {
    rest=
    read -r line 2>/dev/null <"/proc/$1/stat" || return
    rest=${line##*) }
    comm=${line#*(}
    comm=${comm%)*}
    [ "$rest" != "$line" ]
}
list_processes() {
    table=
    lines=$(cat /proc/[0-9]*/stat 2>/dev/null)
    IFS="
"
    set -- $lines
    unset IFS
    for line in "$@"; do
        rest=${line##*) }
        pid=${line%% *}
        case "$pid" in "" | *[!0-9]*) continue; esac
        set -- $rest
        [ "${2:-2}" = 2 ] || table="$table $pid:$2:${3:-0}"
    done
}
writers() {
    for entry in /proc/[0-9]*/fd/*; do
        [ "$entry" -ef "$1" ] 2>/dev/null || continue
        info=${entry%/fd/*}/fdinfo/${entry##*/}
        flags=0
        while read -r word value; do [ "$word" != flags: ] || flags=$value; done 2>/dev/null <"$info"
        case "$flags" in *[1256])
            entry=${entry#/proc/}
            echo "${entry%%/*}"
        esac
    done
}
job_of() {
    [ "$#" -gt 0 ] || return
    found=" $* " groups=" "
    for entry in $table; do
        case "$found" in *" ${entry%%:*} "*) groups="$groups${entry##*:} "; esac
    done
    again=1
    while [ "$again" ]; do
        again=
        for entry in $table; do
            pid=${entry%%:*} parent=${entry#*:}
            parent=${parent%:*}
            case "$found$own" in *" $pid "*) continue; esac
            case "$own" in *" $parent "*)
                own="$own$pid "
                continue
            esac
            case "$found" in *" $parent "*) ;; *)
                case "$groups" in *" ${entry##*:} "*) ;; *) continue; esac
            esac
            found="$found$pid "
            again=1
        done
    done
    echo "$found"
}
find_jobs() {
    jobs= number=0
    list_processes
    own=" $$ $me "
    for path in @FILES@; do
        known=${1:-0}
        [ "$#" -eq 0 ] || shift
        [ ! -d "$path" ] || path=$path/events.jsonl
        case "$known" in 0 | *[!0-9]*) known=$(writers "$path"); esac
        seeds=
        for pid in $known; do
            case "$own" in *" $pid "*) ;; *) seeds="$seeds $pid"; esac
        done
        for pid in $(job_of $seeds); do jobs="$jobs $number:$pid"; done
        number=$((number + 1))
    done
}
read_jobs() {
    read -r up _ 2>/dev/null </proc/uptime || return
    printf '%s\\n' "$token clock 0" "$ticks $page $up" "$token job 0"
    lines=0
    for job in $jobs; do
        stat_of "${job#*:}" || continue
        set -- $rest
        printf '%s\\n' "${job%%:*} ${job#*:} $((${12} + ${13})) ${18} ${22} ${20} $comm"
        lines=$((lines + 1))
        [ "$lines" -lt 256 ] || break
    done
}
devices() {
    set +f
    PATH=$PATH:/opt/rocm/bin:/usr/lib/wsl/lib:/usr/local/nvidia/bin
    token=@TOKEN@ me=@PARENT@ watched= reasons=,clocks_throttle_reasons.active named= jobs=
    ticks=$(getconf CLK_TCK 2>/dev/null || echo 100) page=$(getconf PAGESIZE 2>/dev/null || echo 4096)
    while read -r gpus find pids; do
        case "$gpus$find" in
        [01][01]) ;;
        file*)
            watched=$(printf '%b_' "$find")
            watched=${watched%_}
            continue
            ;;
        *) continue ;;
        esac
        {
            printf '%s\\n' "$token begin"
            [ "$find" = 0 ] || printf '%s\\n' "$token host 0" "$(uname -n)"
            [ "$gpus" = 0 ] || read_gpus
            [ "$find" = 0 ] || find_jobs $pids
            read_jobs
            printf '%s\\n' "$token spent 0"
            times
            printf '%s\\n' "$token end"
        } >&2
    done
}
"""


def new_token() -> str:
    """A word that no other program can know, which marks the lines of an answer."""
    return f"tdiff-{secrets.token_hex(8)}"


def functions(token: str, files: str, parent: int = 0) -> str:
    """The shell functions, of which `devices` answers requests until its standard input ends.

    `files`: the watched files or folders, quoted for a shell. The process `parent`, with all that it has started, never
    counts as a job.
    """
    text = _FUNCTIONS.replace("@TIMEOUT@", str(TIMEOUT)).replace("@TOKEN@", token).replace("@PARENT@", str(parent))
    return text.replace("@FILES@", files)


def local_script(token: str, files: list[str], parent: int) -> str:
    """The script for this host."""
    quoted = " ".join(shlex.quote(file) for file in files)
    return f"LC_ALL=C\nexport LC_ALL\n{functions(token, quoted, parent)}devices\n"


def name_file(path: bytes) -> str:
    """The line that names the file whose processes are meant from now on."""
    plain = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-")
    return "file " + "".join(chr(byte) if byte in plain else f"\\0{byte:03o}" for byte in path) + "\n"


def request(*, gpus: bool, find: bool, processes: list[int]) -> str:
    """A request; `processes` has the known process of each file, or 0."""
    return " ".join(map(str, (int(gpus), int(find), *processes))) + "\n"
