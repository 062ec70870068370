import GRPCCore
import GRPCNIOTransportHTTP2Posix
import Rondo

extension Home {
    /// Unary calls, all at once, and streaming ones, to a gRPC server of the same program.
    func call(count: Int) async throws {
        let server = GRPCServer(
            transport: .http2NIOPosix(address: .ipv4(host: "127.0.0.1", port: 0), transportSecurity: .plaintext),
            services: [Echo(home: self)])
        try await withThrowingDiscardingTaskGroup { group in
            group.addTask { try await server.serve() }
            let port = try await server.listeningAddress?.ipv4?.port ?? 0
            self.look()
            let transport = try HTTP2ClientTransport.Posix(
                target: .ipv4(address: "127.0.0.1", port: port), transportSecurity: .plaintext)
            try await withGRPCClient(transport: transport) { client in
                print("\(try await self.unary(client, count)) answers were right")
                print("\(try await self.streaming(client, count)) messages came back in order")
            }
            self.look()
            server.beginGracefulShutdown()
        }
        look()
    }

    /// - Returns: how many answers were right.
    private func unary(_ client: GRPCClient<HTTP2ClientTransport.Posix>, _ count: Int) async throws -> Int {
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for number in 0..<count {
                group.addTask {
                    self.look()
                    let answer = try await client.unary(
                        request: ClientRequest(message: "\(number)"), descriptor: .echo, serializer: Text(),
                        deserializer: Text(), options: .defaults
                    ) { response in
                        self.look()
                        return try response.message
                    }
                    self.look()
                    return answer == "echo \(number)"
                }
            }
            return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
    }

    /// One call, with messages both ways at once.
    ///
    /// - Returns: how many messages came back in order.
    private func streaming(_ client: GRPCClient<HTTP2ClientTransport.Posix>, _ count: Int) async throws -> Int {
        try await client.bidirectionalStreaming(
            request: StreamingClientRequest { writer in
                for number in 0..<count {
                    self.look()
                    try await writer.write("\(number)")
                }
            }, descriptor: .echo, serializer: Text(), deserializer: Text(), options: .defaults
        ) { response in
            var next = 0
            for try await message in response.messages {
                self.look()
                if message == "echo \(next)" { next += 1 }
            }
            return next
        }
    }
}

extension MethodDescriptor {
    static let echo = MethodDescriptor(fullyQualifiedService: "rondo.Echo", method: "Say")
}

/// Texts are messages as they are.
struct Text: MessageSerializer, MessageDeserializer {
    func serialize<Bytes: GRPCContiguousBytes>(_ message: String) throws -> Bytes { Bytes(Array(message.utf8)) }

    func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> String {
        // SAFETY: the bytes are copied within the call.
        unsafe bytes.withUnsafeBytes { unsafe String(decoding: $0, as: UTF8.self) }
    }
}

/// Answers every message of a call.
struct Echo: RegistrableRPCService {
    let home: Home

    func registerMethods(with router: inout RPCRouter<some ServerTransport>) {
        router.registerHandler(forMethod: .echo, deserializer: Text(), serializer: Text()) { request, _ in
            StreamingServerResponse { writer in
                for try await message in request.messages {
                    home.look()
                    await Task.yield()
                    home.look()
                    try await writer.write("echo \(message)")
                }
                return [:]
            }
        }
    }
}
