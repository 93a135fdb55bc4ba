"""Serves hello.py at the port of its argument, by Python's own server."""
import sys
from wsgiref.simple_server import make_server

import hello

make_server("127.0.0.1", int(sys.argv[1]), hello.application).serve_forever()
