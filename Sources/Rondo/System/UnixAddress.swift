import Glibc
public import SystemPackage

/// Where a Unix-domain socket is: a path, a name that is no file (Linux's abstract names), or nowhere.
///
/// It is written as people write it: `/run/app.sock`, `@app` for an abstract name.
public struct UnixAddress: Hashable, Sendable, CustomStringConvertible {
    private enum Place: Hashable, Sendable { case path, abstract, unnamed }

    private let place: Place
    private let name: [UInt8]

    /// The most bytes of a path or an abstract name.
    public static let lengthLimit = 107

    /// A file: who may write to it may connect. It has at most ``lengthLimit`` bytes; a longer one is an error when it
    /// is used.
    public static func path(_ path: FilePath) -> UnixAddress {
        UnixAddress(place: .path, name: Array(path.string.utf8))
    }

    /// An abstract name: no file, and nobody is kept from connecting. It is gone with the socket.
    public static func abstract(_ name: String) -> UnixAddress {
        UnixAddress(place: .abstract, name: Array(name.utf8))
    }

    /// An abstract name of any bytes.
    public static func abstract(bytes: [UInt8]) -> UnixAddress { UnixAddress(place: .abstract, name: bytes) }

    /// What a socket has that was never bound: the usual client.
    public static let unnamed = UnixAddress(place: .unnamed, name: [])

    /// The path, if it is one.
    public var path: FilePath? { place == .path ? FilePath(String(decoding: name, as: UTF8.self)) : nil }

    /// The bytes of the abstract name, if it is one.
    public var abstractName: [UInt8]? { place == .abstract ? name : nil }

    /// Whether it is nowhere.
    public var isUnnamed: Bool { place == .unnamed }

    /// `/run/app.sock`, `@app`, `(unnamed)`. Bytes of an abstract name that are no text are written `\x01`.
    public var description: String {
        switch place {
        case .path: String(decoding: name, as: UTF8.self)
        case .abstract: "@" + name.map(Self.readable).joined()
        case .unnamed: "(unnamed)"
        }
    }

    private static func readable(_ byte: UInt8) -> String {
        if (0x20..<0x7f).contains(byte) { return String(UnicodeScalar(byte)) }
        let digits = String(byte, radix: 16)
        return "\\x" + (digits.count == 1 ? "0" : "") + digits
    }
}

extension UnixAddress {
    /// Why the kernel can't have it, in words; nil if it can.
    package var problem: String? {
        switch place {
        case .unnamed: "it has no name"
        case .path where name.isEmpty: "the path is empty"
        case .path where name.contains(0): "the path has a zero byte in it"
        case .path where name.count > Self.lengthLimit:
            "the path has \(name.count) bytes, and that of a socket at most \(Self.lengthLimit)"
        case .abstract where name.isEmpty: "the name is empty"
        case .abstract where name.count > Self.lengthLimit:
            "the name has \(name.count) bytes, and that of a socket at most \(Self.lengthLimit)"
        default: nil
        }
    }

    /// As the kernel reads it. It must have no problem.
    package var socketName: SocketName {
        let family = familyBytes
        switch place {
        case .path: return SocketName(family + name + [0])
        case .abstract: return SocketName(family + [0] + name)
        case .unnamed: return SocketName(family)
        }
    }

    private var familyBytes: [UInt8] { [UInt8(AF_UNIX), 0] }

    /// The Unix address that a name is; unnamed if it is none.
    package init(_ socketName: SocketName) {
        let bytes = socketName.bytes.dropFirst(2)
        guard socketName.family == AF_UNIX, let first = bytes.first else {
            self = .unnamed
            return
        }
        if first == 0 {
            self.init(place: .abstract, name: Array(bytes.dropFirst()))
        } else {
            self.init(place: .path, name: Array(bytes.prefix { $0 != 0 }))
        }
    }
}
