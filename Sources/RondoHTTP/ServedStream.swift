// What is below a connection.

import Rondo

/// What a connection of HTTP/1 is served on: a socket, or TLS over one.
protocol ServedStream: ByteSource, ByteSink, AnyObject, Sendable {
    func close() async
    func abort() async
}

extension TCPStream: ServedStream {}
extension UnixStream: ServedStream {}
