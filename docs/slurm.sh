#!/bin/bash
# One training on several machines of a Slurm cluster, that goes on by itself after every time limit.
#
#   sbatch docs/slurm.sh --config-dir configs/large run.dir=/shared/runs/mine
#
# A process a GPU, started by srun and not by torchrun: srun hands on the exit code, torchrun makes 1 of every other.

#SBATCH --job-name=bloomery
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# The processes get SIGTERM five minutes before the end, save at the next step boundary and exit with 75.
#SBATCH --signal=TERM@300

export MASTER_ADDR MASTER_PORT WORLD_SIZE OMP_NUM_THREADS
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
WORLD_SIZE=$SLURM_NTASKS
OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

# shellcheck disable=SC2016 # the variables are those of each task
srun --kill-on-bad-exit=1 bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID LOCAL_WORLD_SIZE=$((SLURM_NTASKS / SLURM_NNODES))
    exec python scripts/train_llm_from_scratch.py "$@"
' task "$@"
code=$?

if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
