# What torch.distributed and psutil ask of the host's network, with the standard library alone.
import socket
print(socket.if_nameindex())
