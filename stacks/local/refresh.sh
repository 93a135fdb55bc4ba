#!/bin/sh
# refresh.sh FOLDER [VOLUME…]: hands what lies in the machine's staging/ (facts.json, secrets/) to the running machine in place of what it has,
# and clears its report, so that whoever follows it sees the coming activation and not the last one. VOLUME: files of data volumes, which may
# have grown.
set -eu
cd "$1"
shift
chown -R --no-dereference 0:0 staging
find staging -type l -delete # staging/ was the caller's: no link of theirs is followed
find staging -type d -exec chmod 0700 {} +
find staging -type f -exec chmod 0600 {} +
# The folder facts/ itself is what the machine has mounted: it stays, what is in it changes.
mv -T -- staging/facts.json facts/facts.json
mv -T -- facts/secrets facts/.old
mv -T -- staging/secrets facts/secrets
rm -rf -- facts/.old staging report/steps.jsonl
for volume; do
	for device in $(losetup --associated "$volume" --noheadings --output NAME); do
		losetup --set-capacity "$device"
	done
done
