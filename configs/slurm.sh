#!/bin/bash
# Train on two nodes with Slurm; the same script, submitted again, resumes.
#
#   sbatch configs/slurm.sh configs/rsvqa_lr_2b.toml
#
# All arguments are those of `qwen2vl-rs train`. Environment, data and run folder have to be on a
# file system that all nodes see. Three minutes before the time limit, and at a preemption, every
# process gets SIGTERM, and training saves a checkpoint. A preempted job is queued again by Slurm; a
# job that reached its time limit has to be submitted again.
#SBATCH --job-name=qwen2vl-rs
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
exec srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node auto --rdzv-backend c10d \
  --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:29500" -m qwen2vl_rs train "$@" --auto-resume
