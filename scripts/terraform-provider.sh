#!/bin/bash
# Makes the real AWS provider of Terraform for the long tests, unmodified, from its Go module, since tests may not depend on Terraform's
# registry. Once: 20 to 70 minutes of two cores, 10 GB of memory at the link, a program of 900 MB, kept outside the repository.
#   terraform-provider.sh [folder]    default: $INGOT_PROVIDER_AWS, else ~/.cache/ingot/terraform-provider-aws
set -euo pipefail
# Releases 6.x are no valid module versions (no /v6 in the module's path), so Go takes them by this name: it is 6.48.
version=v1.60.1-0.20260602190131-5f2286d6d836
folder=${1:-${INGOT_PROVIDER_AWS:-${XDG_CACHE_HOME:-$HOME/.cache}/ingot/terraform-provider-aws}}
if [ -x "$folder/terraform-provider-aws" ]; then
	echo "$folder/terraform-provider-aws is there already"
	exit 0
fi
command -v go >/dev/null || { echo "Go builds it, and is not installed: apt-get install golang, or https://go.dev/dl" >&2 && exit 3; }
mkdir -p "$folder"
echo "building the AWS provider into $folder: 20 to 70 minutes"
# -p 2: more at once need more memory than most computers have.
GOBIN=$folder nice go install -p 2 -ldflags="-s -w" "github.com/hashicorp/terraform-provider-aws@$version"
echo "done: $folder/terraform-provider-aws"
