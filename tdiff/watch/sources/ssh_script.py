"""The script that sends a file from another host: a POSIX sh runs it there, with what `ssh.py` puts into it."""

# The messages of the script:
# R inode offset mark: the first file, or another one, is read from this offset on.
# H n: its first n bytes, if the offset is not 0.
# D n: n more bytes (zeros if the file was truncated meanwhile). Then X: they do not count; or K offset mark age: they
#   count, and the file was written `age` seconds ago.
# P n: n bytes, the file that is read in a folder, and others in it, one path a line.
# S n: n bytes, what `scontrol show job` prints, where a job was named; its file is then the one that is read.
# I: there is no more. W reason: there is no readable file. Both are repeated every few seconds, which shows that the
#   other host is alive, and ends the script through its closed pipe once this process is gone.
# The mark of an offset is a checksum of the bytes at the beginning of the file and of those before the offset. It
# detects a file that was rewritten. The marks are computed before and after sending, since a file may be rewritten
# while a part of it is sent.
SCRIPT = """\
banner={banner} f={file} q={chosen} i={inode} o={offset} m={mark} most={most} job={job}
chunk=65536 beat=0 idle=0 ask=0 last=
LC_ALL=C
export LC_ALL
unset BLOCK_SIZE LS_BLOCK_SIZE
set -f
say() {{ printf '%s\\n' "$*" || exit; }}
look() {{ set -- $(ls -lniL "$p" 2>/dev/null); j=$1 s=$6; }}
part() {{ tail -c "+$(($1 + 1))" "$p" 2>/dev/null | head -c "$2"; }}
whole() {{ {{ part "$1" "$2"; head -c "$2" /dev/zero; }} | head -c "$2"; }}
mark() {{
    h=$(($1 < 1024 ? $1 : 1024)) k=$(($1 < 4096 ? $1 : 4096))
    [ "$1" -eq 0 ] || {{ part 0 "$h"; part "$(($1 - k))" "$k"; }} | cksum | {{ read -r sum _; echo "$sum"; }}
}}
age() {{ t=$(stat -c %Y "$p" 2>/dev/null || stat -f %m "$p" 2>/dev/null) && echo "$(($(date +%s) - t))"; }}
loss() {{ {{ head -c 262144 "$1"; tail -c 65536 "$1"; }} 2>/dev/null | grep -iq loss; }}
logs() {{
    find "$f" -maxdepth 5 -type f "$@" ! -name 'debug*.log' ! -name '*profile-empty' -exec ls -t {{}} + 2>/dev/null
}}
pick() {{
    all=$(logs \\( -name '*tfevents*' -o -name '*.log' -o -name '*.out' -o -name '*.err' -o -name '*.[oe][0-9]*' \\
        -o -name '*.csv' -o -name '*.tsv' -o -name '*.jsonl' \\); logs -name trainer_state.json)
    new=$(printf '%s\\n' "$all" | head -n 24 | while IFS= read -r c; do
        if loss "$c"; then
            printf '%s\\n' "$c"
            break
        fi
    done)
    if [ "$new" ] && [ "$new" != "$q" ]; then
        q=$new
        all=$q'
'$(printf '%s\\n' "$all" | grep -vxF -e "$q" | head -n 8)
        say "P $(($(printf '%s' "$all" | wc -c)))"
        printf '%s' "$all"
    fi
}}
ask() {{
    text=$(scontrol show job "$job" 2>&1 | head -c 60000)
    say "S $(($(printf '%s' "$text" | wc -c)))"
    printf '%s' "$text"
    output=$(printf '%s\\n' "$text" | sed -n 's/^ *StdOut=//p' | head -n 1)
    [ -z "$output" ] || f=$output
    case $text in
    *JobState=RUNNING* | *JobState=PENDING* | *JobState=CONFIGURING* | *JobState=COMPLETING*) ask=40 ;;
    *JobState=* | *'Invalid job id'*) ask=400 ;;
    *) ask=40 ;;
    esac
}}
rest() {{ idle=$((idle + 1)) ask=$((ask - 1)) beat=$(((beat + 1) % 10)); sleep 0.5 2>/dev/null || sleep 1; }}
{devices}say "$banner"
{{
devices <&3 3<&- >&2 &
while :; do
    [ -z "$job" ] || [ "$ask" -gt 0 ] || ask
    p=$f why=
    if [ -e "$f/events.jsonl" ]; then
        p=$f/events.jsonl
    elif [ -d "$f" ]; then
        if [ ! -f "$q" ] && [ "$beat" -eq 0 ] || [ "$idle" -ge {idle} ]; then
            idle=0
            pick
        fi
        p=$q
        [ "$q" ] || p=$f/events.jsonl why=empty
        [ ! -e "$f/config.toml" ] || why=
    fi
    look
    if [ "$why" ]; then
        :
    elif [ ! -e "$p" ]; then
        why=missing
    elif [ ! -f "$p" ]; then
        why=kind
    elif [ ! -r "$p" ]; then
        why=closed
    fi
    if [ "$why" ] || [ -z "$s" ]; then
        i=
        [ "$why" = "$last" ] || beat=0
        last=$why
        [ "$beat" -gt 0 ] || say "W $why"
        rest
        continue
    fi
    if [ "$j" != "$i" ] || [ "$s" -lt "$o" ]; then
        i=$j o=0 beat=0
        [ "$s" -le "$most" ] || o=$((s - most))
        m=$(mark "$o")
        say "R $i $o $m"
        [ "$o" -eq 0 ] || {{ say "H 16384"; whole 0 16384; }}
    fi
    n=$((s - o))
    [ "$n" -le "$chunk" ] || n=$chunk
    if [ "$n" -gt 0 ]; then
        new=$(mark "$((o + n))")
        say "D $n"
        whole "$o" "$n"
        again=$(mark "$((o + n))") old=$(mark "$o")
        look
        if [ "$j" = "$i" ] && [ "$old" = "$m" ] && [ "$again" = "$new" ] && [ "$s" -ge "$((o + n))" ]; then
            o=$((o + n)) m=$new beat=0 idle=0
            [ "$chunk" -ge {chunk} ] || chunk=$((chunk * 2))
            say "K $o $m $(age)"
        else
            i=
            say X
        fi
        continue
    fi
    if [ "$beat" -eq 0 ]; then
        [ "$(mark "$o")" = "$m" ] || {{ i=; continue; }}
        say I
        chunk=65536
    fi
    rest
done
}} 3<&0 </dev/null
"""
