// The PROXY protocol, versions 1 and 2: what a proxy says first on a connection that it makes for somebody, so that the
// server learns who that is (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt). It comes from outside: every
// length and every character is checked.

/// The header that a proxy sends before a connection's own bytes, to say for whom it connects.
///
/// Accept it from proxies that you know only: whoever may send one may claim any address.
public struct ProxyHeader: Hashable, Sendable {
    /// The two forms of the header.
    public enum Version: Sendable {
        /// A line of text.
        case v1
        /// Binary.
        case v2
    }

    /// The two ends of the connection that the proxy has accepted.
    public struct Addresses: Hashable, Sendable {
        /// Who connected to the proxy.
        public var source: SocketAddress
        /// The proxy's own address in that connection.
        public var destination: SocketAddress

        /// Both ends.
        public init(source: SocketAddress, destination: SocketAddress) {
            self.source = source
            self.destination = destination
        }
    }

    /// Something more that the proxy says, in version 2 (a "TLV").
    public struct Attribute: Hashable, Sendable {
        /// What it is: 0x01 the protocol agreed on (ALPN), 0x02 the host name asked for, 0x20 TLS…
        public var type: UInt8
        /// Its value.
        public var value: [UInt8]

        /// An attribute. Its value has at most 65,535 bytes.
        public init(type: UInt8, value: [UInt8]) {
            self.type = type
            self.value = value
        }
    }

    /// For whom the proxy connects; nil if it connects for itself (a health check), or for somebody without an internet
    /// address: the connection's own addresses hold then.
    public var addresses: Addresses?
    /// What else it says; version 2 only. Checksums among it are not verified.
    public var attributes: [Attribute]

    /// A header for a connection between two addresses; nil for the proxy's own connections.
    public init(_ addresses: Addresses?, attributes: [Attribute] = []) {
        self.addresses = addresses
        self.attributes = attributes
    }

    /// Reads the header that a connection must begin with; what comes behind it stays in `reader`.
    ///
    /// - Parameter limit: the most bytes that a header may have.
    /// - Throws: `IOError`: `.malformed` if there is no correct header, `.unexpectedEnd`, `.limitExceeded`.
    public static func read(
        from reader: BufferedReader, limit: Int = 4096
    ) async throws(IOError) -> ProxyHeader {
        func error(_ cause: IOError.Cause) -> IOError { IOError("read PROXY header from", reader.subject, cause) }
        let start = try await reader.peek(signature.count)
        let parsed: Result<ProxyHeader, Malformed>
        if start.starts(with: textBegin) {
            do throws(IOError) {
                guard let line = try await reader.readUntil(Array("\r\n".utf8), limit: longestLine - 2) else {
                    throw error(.unexpectedEnd)
                }
                parsed = parse(line: line)
            } catch {
                if case .limitExceeded = error.cause { throw self.malformed("its line does not end", reader) }
                throw error
            }
        } else if start == signature {
            let fixed = try await reader.peek(16)
            guard fixed.count == 16 else { throw error(.unexpectedEnd) }
            let count = 16 + Int(fixed[14]) << 8 + Int(fixed[15])
            guard count <= limit else { throw error(.limitExceeded(limit)) }
            parsed = parse(binary: try await reader.readExactly(count))
        } else if signature.starts(with: start) || textBegin.starts(with: start) {
            throw error(.unexpectedEnd)
        } else {
            throw malformed("the connection does not begin with one", reader)
        }
        switch parsed {
        case .success(let header): return header
        case .failure(let failure): throw malformed(failure.words, reader)
        }
    }

    private static func malformed(_ words: String, _ reader: BufferedReader) -> IOError {
        IOError("read PROXY header from", reader.subject, .malformed(words))
    }
}

// MARK: Writing

extension ProxyHeader {
    /// The header as a proxy sends it. If the two addresses are of different families, the IPv4 one is written as IPv6
    /// (`::ffff:1.2.3.4`). Version 1 has no room for attributes, and leaves them out.
    public func bytes(_ version: Version = .v2) -> [UInt8] {
        switch version {
        case .v1: Array(line.utf8)
        case .v2: binary
        }
    }

    private var line: String {
        guard let ends else { return "PROXY UNKNOWN\r\n" }
        let family = ends.source.family == .ipv4 ? "TCP4" : "TCP6"
        let (source, destination) = (ends.source, ends.destination)
        return "PROXY \(family) \(source.host) \(destination.host) \(source.port) \(destination.port)\r\n"
    }

    private var binary: [UInt8] {
        var body: [UInt8] = []
        if let ends {
            body += ends.source.bytes + ends.destination.bytes
            for port in [ends.source.port, ends.destination.port] { body += Self.bytes(of: port) }
        }
        for attribute in attributes {
            body += [attribute.type] + Self.bytes(of: attribute.value.count) + attribute.value
        }
        let family: UInt8 = ends.map { $0.source.family == .ipv4 ? 0x11 : 0x21 } ?? 0
        return Self.signature + [ends == nil ? 0x20 : 0x21, family] + Self.bytes(of: body.count) + body
    }

    /// The addresses, made one family.
    private var ends: Addresses? {
        guard var ends = addresses else { return nil }
        if ends.source.family != ends.destination.family {
            ends.source = Self.mapped(ends.source)
            ends.destination = Self.mapped(ends.destination)
        }
        return ends
    }

    private static func mapped(_ address: SocketAddress) -> SocketAddress {
        if address.family == .ipv6 { return address }
        let bytes = [UInt8](repeating: 0, count: 10) + [0xff, 0xff] + address.bytes
        return SocketAddress(bytes: bytes, port: address.port)!
    }

    private static func bytes(of number: Int) -> [UInt8] {
        require(number <= 65_535, "\(number) does not fit a PROXY header")
        return [UInt8(number >> 8), UInt8(number & 0xff)]
    }
}

// MARK: Parsing

extension ProxyHeader {
    struct Malformed: Error, Equatable { var words: String }

    /// What version 2 begins with.
    static let signature: [UInt8] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]
    private static let textBegin = Array("PROXY ".utf8)
    /// The longest line of version 1, with its end.
    private static let longestLine = 107

    /// A line of version 1, without its end.
    static func parse(line: [UInt8]) -> Result<ProxyHeader, Malformed> {
        let words = line.split(separator: 0x20, omittingEmptySubsequences: false).map {
            String(decoding: $0, as: UTF8.self)
        }
        guard words.count >= 2, words[0] == "PROXY" else { return .failure(Malformed(words: "it is no PROXY line")) }
        // Whatever follows UNKNOWN is to be ignored.
        if words[1] == "UNKNOWN" { return .success(ProxyHeader(nil)) }
        guard words[1] == "TCP4" || words[1] == "TCP6" else {
            return .failure(Malformed(words: "it names an unknown family"))
        }
        guard words.count == 6 else { return .failure(Malformed(words: "it has \(words.count) words, not 6")) }
        let family: SocketAddress.Family = words[1] == "TCP4" ? .ipv4 : .ipv6
        guard let source = address(words[2], words[4], family),
            let destination = address(words[3], words[5], family)
        else { return .failure(Malformed(words: "an address or a port is none")) }
        return .success(ProxyHeader(Addresses(source: source, destination: destination)))
    }

    private static func address(_ host: String, _ port: String, _ family: SocketAddress.Family) -> SocketAddress? {
        guard (1...5).contains(port.utf8.count), port.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            port.utf8.count == 1 || port.utf8.first != 0x30, let number = Int(port),
            // What a C string would end at, and what a URL may have, are no part of an address.
            host.utf8.allSatisfy({ $0 != 0 && $0 != 0x5b }),
            let address = SocketAddress(host, port: number), address.family == family
        else { return nil }
        return address
    }

    /// A whole header of version 2.
    static func parse(binary bytes: [UInt8]) -> Result<ProxyHeader, Malformed> {
        guard bytes.count >= 16, bytes.starts(with: signature), bytes.count == 16 + number(bytes, at: 14) else {
            return .failure(Malformed(words: "it is no binary PROXY header"))
        }
        guard bytes[12] >> 4 == 2 else { return .failure(Malformed(words: "its version is not 2")) }
        switch bytes[12] & 0x0f {
        case 0: return .success(ProxyHeader(nil))  // the proxy's own connection: the rest is to be ignored
        case 1: break
        default: return .failure(Malformed(words: "it has an unknown command"))
        }
        let size: Int
        switch bytes[13] {
        case 0x00: size = 0
        case 0x11, 0x12: size = 4
        case 0x21, 0x22: size = 16
        case 0x31, 0x32: size = 108  // Unix sockets: two paths, and no ports
        default: return .failure(Malformed(words: "it has an unknown family"))
        }
        let isInternet = size == 4 || size == 16
        let rest = 16 + 2 * size + (isInternet ? 4 : 0)
        guard bytes.count >= rest else { return .failure(Malformed(words: "its addresses are cut off")) }
        guard let attributes = attributes(bytes[rest...]) else {
            return .failure(Malformed(words: "an attribute is cut off"))
        }
        guard isInternet else { return .success(ProxyHeader(nil, attributes: attributes)) }
        let ports = 16 + 2 * size
        let source = SocketAddress(bytes: Array(bytes[16..<16 + size]), port: number(bytes, at: ports))!
        let destination = SocketAddress(bytes: Array(bytes[16 + size..<ports]), port: number(bytes, at: ports + 2))!
        return .success(
            ProxyHeader(Addresses(source: source, destination: destination), attributes: attributes))
    }

    private static func attributes(_ bytes: ArraySlice<UInt8>) -> [Attribute]? {
        var rest = bytes
        var attributes: [Attribute] = []
        while let type = rest.first {
            guard rest.count >= 3 else { return nil }
            let count = Int(rest[rest.startIndex + 1]) << 8 + Int(rest[rest.startIndex + 2])
            guard rest.count >= 3 + count else { return nil }
            attributes.append(Attribute(type: type, value: Array(rest.dropFirst(3).prefix(count))))
            rest = rest.dropFirst(3 + count)
        }
        return attributes
    }

    private static func number(_ bytes: [UInt8], at index: Int) -> Int {
        Int(bytes[index]) << 8 + Int(bytes[index + 1])
    }
}
