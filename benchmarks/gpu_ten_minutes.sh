#!/usr/bin/env bash
# What only a GPU can tell, within ten minutes: times of the network, then both networks trained
# and evaluated on real clips. Needs torch, torchvision and the rest of requirements.txt but
# PyAV; no network, no data but the pack.
#
#     python benchmarks/gpu_pack.py make --data data/JHMDB      # where the data is: 60 MiB
#     bash benchmarks/gpu_ten_minutes.sh files/gpu_pack.zip results      # on the rented machine
#     DEVICE=cpu TINY=1 bash benchmarks/gpu_ten_minutes.sh files/gpu_pack.zip /tmp/trial   # proves the way through
#
# Every part has a limit of its own; one that fails or takes longer is said so in the results,
# and the next begins. Writes <results>/summary.md as parts end, and a log of each.
set -u
PACK=$(realpath "${1:?the pack that gpu_pack.py makes}")
mkdir -p "${2:?folder for the results}"
OUT=$(realpath "$2")
cd "$(dirname "$0")/.." || exit 1
PYTHON=${PYTHON:-python}
DEVICE=${DEVICE:-cuda}
TINY=${TINY:-}
WORK=${WORK:-files/gpu_ten_minutes}
DATA=$WORK/data
SUMMARY=$OUT/summary.md
FULL=full # the first network
FIRST=12  # steps that show the rate
LIMITS=(60 190 160 60 90 40) # seconds: unpack, bench, train full, evaluate, train laptop, evaluate
rm -rf "$WORK"
mkdir -p "$WORK"

part() { # part NAME SECONDS COMMAND...: runs it within its seconds, and says how that went
    local name=$1 limit=$2 began=$SECONDS status
    shift 2
    timeout --kill-after=10 "$limit" "$@" >"$OUT/$name.log" 2>&1 </dev/null
    status=$?
    printf '| %s | %s | %s |\n' "$name" "$((SECONDS - began))" "$(outcome $status "$limit")" >>"$SUMMARY"
    return $status
}

outcome() {
    case $1 in
    0) echo done ;;
    124 | 137) echo "stopped after its $2 seconds" ;;
    *) echo "failed with status $1, see its log" ;;
    esac
}

rate() { # clips a second that a training's log names last
    grep -o '[0-9.]* clips/s' "$1" | tail -n 1 | cut -d ' ' -f 1
}

learn() { # learn RUN SECONDS FLAGS...: twelve steps to see the rate, then what fits
    local run=$1 limit=$2 began=$SECONDS steps seconds
    shift 2
    local train=(train_jhmdb.py --run "$WORK/$run" --data "$DATA" --device "$DEVICE" --no-validation
        --cache-dir "$WORK/cache" "$@")
    part "$run-rate" "$limit" "$PYTHON" "${train[@]}" --steps "$FIRST" --epochs 1 || return
    # two thirds of what is left: starting, clusters and batch norm take their part
    seconds=$(((limit - (SECONDS - began)) * 2 / 3))
    steps=$(awk -v s="$seconds" -v r="$(rate "$OUT/$run-rate.log")" 'BEGIN {print int(s * r / 8)}')
    [ -n "$TINY" ] && steps=4
    part "$run-train" $((limit - (SECONDS - began))) \
        "$PYTHON" "${train[@]}" --steps $((steps > 4 ? steps : 4)) --epochs 2 --force
}

score() { # score RUN SECONDS
    part "$1-evaluate" "$2" "$PYTHON" evaluate.py --run "$WORK/$1" --dataset jhmdb --data "$DATA" \
        --ground-truth "$DATA" --device "$DEVICE" --cache-dir "$WORK/cache" &&
        {
            echo
            echo "$1, $(grep -o 'step [0-9]*' "$OUT/$1-train.log" | tail -n 1), $(rate "$OUT/$1-train.log") clips/s:"
            echo
            grep -E '^(f-mAP|v-mAP|accuracy|frame-mAP|video-mAP|threshold)' "$OUT/$1-evaluate.log" | sed 's/^/    /'
        } >>"$OUT/scores.md"
}

labels() { # labels RUN: every label of the training clips
    "$PYTHON" claus_select.py --run "$WORK/$1" --dataset jhmdb --data "$DATA" --oracle "$DATA" --cycle 0 \
        --videos 100% --frames 100% >"$OUT/$1-labels.log" 2>&1
}

{
    echo "# Ten minutes of ${DEVICE}"
    echo
    "$PYTHON" -c 'import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device", "· torch", torch.__version__)'
    echo
    echo "| part | seconds | |"
    echo "| --- | --- | --- |"
} >"$SUMMARY"
: >"$OUT/scores.md"
BENCH=(--minutes 2.5)
if [ -n "$TINY" ]; then
    FULL=small
    FIRST=2
    BENCH=(--tiny)
    LIMITS=(120 200 200 200 300 300)
fi
part unpack "${LIMITS[0]}" "$PYTHON" benchmarks/gpu_pack.py unpack "$PACK" --out "$DATA"
part bench_gpu "${LIMITS[1]}" "$PYTHON" benchmarks/bench_gpu.py --device "$DEVICE" "${BENCH[@]}"
[ -z "$TINY" ] && cp -f benchmarks/results/gpu.md "$OUT/" 2>/dev/null
labels full && learn full "${LIMITS[2]}" --model "$FULL" --batch-size 8 --workers 12 && score full "${LIMITS[3]}"
labels laptop && learn laptop "${LIMITS[4]}" --model laptop --train-encoder --batch-size 8 --workers 12 &&
    score laptop "${LIMITS[5]}"
cat "$OUT/scores.md" >>"$SUMMARY"
cat "$SUMMARY"
