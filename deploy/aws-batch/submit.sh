#!/usr/bin/env bash
# Submits a sharded export to AWS Batch: the plan, an array of workers, the commit, each after the one before.
#
#   deploy/aws-batch/submit.sh QUEUE WORKERS s3://bucket/exports/name http://milvus:19530
#
# Before, once: aws batch register-job-definition --cli-input-json file://deploy/aws-batch/export.json
#               aws batch register-job-definition --cli-input-json file://deploy/aws-batch/commit.json
set -euo pipefail

queue=${1:?queue} workers=${2:?workers, 2 to 10000} snapshot=${3:?snapshot} source=${4:?source}
where="snapshot=$snapshot,source=$source"

submit() { aws batch submit-job --job-queue "$queue" --query jobId --output text "$@"; }

plan=$(submit --job-name milvus-handoff-plan --job-definition milvus-handoff-export \
  --parameters "$where,shard=plan/$workers")
work=$(submit --job-name milvus-handoff-export --job-definition milvus-handoff-export \
  --parameters "$where" --array-properties "size=$workers" --depends-on "jobId=$plan")
submit --job-name milvus-handoff-commit --job-definition milvus-handoff-commit \
  --parameters "$where" --depends-on "jobId=$work"
