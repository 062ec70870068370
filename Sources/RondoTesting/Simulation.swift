import Rondo
