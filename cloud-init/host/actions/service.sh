#!/bin/sh
# service: enables and starts a unit, and restarts or reloads it once when what it runs with has changed.
# ARG_UNIT      the unit, with its suffix
# ARG_INPUTS    paths (lines) whose contents count, beside the unit's own file and drop-ins; of a symlink also where it leads
# ARG_HASH      any text that counts as well (a release's id)
# ARG_RELOAD    true: a change of ARG_INPUTS alone needs a reload only
# ARG_PATIENT   true: that it was started is enough; what it needs is somebody else's, and may come later
# ARG_SECRET    path of a secret that the unit alone names (LoadCredential=): brought here because a step names it, and an input
# ARG_LISTENS   where it must listen to be up (lines: address:port or a socket's path)
# ARG_READY     each of ARG_LISTENS must answer to an HTTP request for this name, with whatever status
# ARG_TIMEOUT   seconds until it must be up (30)
# shellcheck source=cloud-init/host/actions/lib.sh
. "$INGOT/actions/lib.sh"
[ -z "${ARG_SECRET-}" ] || ARG_INPUTS=${ARG_INPUTS:+$ARG_INPUTS$newline}$ARG_SECRET

service_"$verb" "$ARG_UNIT"
