// Options of channels.

import NIOCore
import Rondo
import RondoNIO
import Testing

@Suite struct OptionTests {
    @Test(arguments: drivers) func whatIsSetCanBeAskedFor(_ driver: DriverKind) throws {
        try run(driver) {
            let (channel, peer) = try await pair { _ in }
            let options = channel.syncOptions!
            try options.setOption(.allowRemoteHalfClosure, value: true)
            #expect(try options.getOption(.allowRemoteHalfClosure))
            try options.setOption(.maxMessagesPerRead, value: 7)
            #expect(try options.getOption(.maxMessagesPerRead) == 7)
            try options.setOption(.writeBufferWaterMark, value: .init(low: 1, high: 2))
            let marks = try options.getOption(.writeBufferWaterMark)
            #expect(marks.low == 1 && marks.high == 2)
            try options.setOption(.connectTimeout, value: .seconds(3))
            #expect(try options.getOption(.connectTimeout) == .seconds(3))
            try options.setOption(.connectTimeout, value: nil)
            #expect(try options.getOption(.connectTimeout) == nil)
            try await channel.setOption(.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 9)).get()
            try await channel.close().get()
            await peer.close()
        }
    }

    @Test(arguments: drivers) func socketOptionsReachTheSocket(_ driver: DriverKind) throws {
        try run(driver) {
            let listener = try await TCPListener.listen(on: .loopback(port: 0))
            let peer = try await TCPStream.connect(to: listener.localAddress)
            let stream = try await listener.accept()
            let channel = StreamChannel(stream)
            channel.start()
            let options = channel.syncOptions!
            try options.setOption(.tcpOption(.tcp_nodelay), value: 0)
            #expect(try options.getOption(.tcpOption(.tcp_nodelay)) == 0)
            #expect(try await stream.settings.noDelay == false)
            try await channel.setOption(.socketOption(.so_keepalive), value: 1).get()
            #expect(try await channel.getOption(.socketOption(.so_keepalive)).get() == 1)
            try options.setOption(.socketOption(.so_sndbuf), value: 100_000)
            #expect(try options.getOption(.socketOption(.so_sndbuf)) == 200_000)
            try options.setOption(.socketOption(.so_reuseaddr), value: 1)
            #expect(throws: ChannelError.operationUnsupported) {
                try options.setOption(.socketOption(.so_broadcast), value: 1)
            }
            #expect(throws: ChannelError.operationUnsupported) {
                try options.getOption(.explicitCongestionNotification)
            }
            try await channel.close().get()
            await peer.close()
            await listener.close()
        }
    }
}
