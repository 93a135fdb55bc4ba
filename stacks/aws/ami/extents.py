"""Where a file has data, as `start end` of bytes, a line each: Node cannot ask. Called by blocks.ts. Reading a hole costs as much as reading
data, and fills the page cache with zeros. Source: lseek(2), "Seeking file data and holes"."""

import errno
import os
import sys

file = os.open(sys.argv[1], os.O_RDONLY)
end = 0
while True:
    try:
        start = os.lseek(file, end, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:  # no data beyond
            raise
        break
    end = os.lseek(file, start, os.SEEK_HOLE)
    print(start, end)
