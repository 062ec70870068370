public import SystemPackage
public import Rondo

/// What a request carries.
public struct HTTPClientRequestBody: Sendable {
    /// Sends its chunks one after the other; `send` waits while the server does not read.
    typealias Source = @Sendable (_ send: @Sendable ([UInt8]) async throws -> Void) async throws -> Void

    enum Content: Sendable {
        case none
        case bytes([UInt8])
        case stream(Source, length: Int64?)
    }

    let content: Content

    /// No body.
    public static var none: Self { Self(content: .none) }

    /// These bytes.
    public static func bytes(_ bytes: [UInt8]) -> Self { Self(content: .bytes(bytes)) }

    /// This text, as UTF-8.
    public static func text(_ text: String) -> Self { Self(content: .bytes(Array(text.utf8))) }

    /// The chunks of a sequence, as fast as the server takes them. A request whose answer redirects it can't send them
    /// again: that is an error then.
    ///
    /// - Parameters:
    ///   - chunks: is iterated once.
    ///   - length: how many bytes they are together; nil sends them as chunks of HTTP.
    public static func stream<Chunks: AsyncSequence & Sendable>(
        _ chunks: Chunks, length: Int64? = nil
    ) -> Self where Chunks.Element == [UInt8] {
        Self(
            content: .stream(
                { send in
                    for try await chunk in chunks { try await send(chunk) }
                }, length: length))
    }

    /// A file's content.
    public static func file(_ path: FilePath) async throws(IOError) -> Self {
        let length = try await Files.status(of: path).size
        return Self(
            content: .stream(
                { send in
                    let file = try await File.open(path)
                    do {
                        for try await chunk in file.chunks(count: length) { try await send(chunk) }
                        await file.close()
                    } catch {
                        await file.close()
                        throw error
                    }
                }, length: length))
    }

    var isEmpty: Bool {
        if case .none = content { return true }
        return false
    }

    var canBeRepeated: Bool {
        if case .stream = content { return false }
        return true
    }
}
