public import HTTPTypes
import Rondo
import Synchronization
public import SystemPackage

/// The answer to a request: its head, and a body that is still on its way.
public struct HTTPClientResponse: Sendable {
    /// Status and header fields.
    public let head: HTTPResponse
    /// The version of HTTP that the server spoke: `1.1`, `2`.
    public let version: String
    /// Who answered, after redirects.
    public let url: String
    /// How many redirects led there.
    public let redirects: Int
    /// What follows. A body that is dropped before its end closes its connection.
    public let body: HTTPClientBody

    /// The status.
    public var status: HTTPResponse.Status { head.status }
    /// The header fields.
    public var fields: HTTPFields { head.headerFields }
    /// How many bytes the body has, if the server says so and it is not packed.
    public var contentLength: Int64? { fields[.contentLength].flatMap { Int64($0) } }
}

/// The body of an answer, in chunks, for one reader. While nobody reads, the server is told to pause.
public struct HTTPClientBody: AsyncSequence, Sendable {
    /// A chunk.
    public typealias Element = [UInt8]
    /// What reading may throw.
    public typealias Failure = HTTPClientError

    let owner: BodyOwner

    /// All iterators share what comes.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(owner: owner) }

    /// Reads the body.
    public struct AsyncIterator: AsyncIteratorProtocol {
        let owner: BodyOwner

        /// The next chunk, which is never empty; nil at the end.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(HTTPClientError) -> [UInt8]? {
            try await owner.next()
        }
    }

    /// All of it.
    ///
    /// - Parameter limit: the most bytes to accept, after decompression.
    /// - Throws: `HTTPClientError`: `.bodyLimit` if there are more.
    public func collect(limit: Int) async throws(HTTPClientError) -> [UInt8] {
        var bytes: [UInt8] = []
        while let chunk = try await owner.next() {
            if bytes.count + chunk.count > limit {
                await owner.drop()
                throw owner.error(.bodyLimit(limit))
            }
            if bytes.isEmpty { bytes = chunk } else { bytes += chunk }
        }
        return bytes
    }

    /// All of it, as text.
    ///
    /// - Throws: `HTTPClientError`: `.malformedResponse` if it is not valid UTF-8.
    public func text(limit: Int) async throws(HTTPClientError) -> String {
        guard let text = String(validating: try await collect(limit: limit), as: UTF8.self) else {
            throw owner.error(.malformedResponse("the body is not valid UTF-8"))
        }
        return text
    }

    /// Writes it into a file, which is there when all of it is: see `File.replace`.
    ///
    /// - Returns: how many bytes there were.
    /// - Throws: `HTTPClientError`: `.file` if the file can't be written.
    @discardableResult
    public func save(to path: FilePath) async throws(HTTPClientError) -> Int64 {
        do {
            return try await File.replace(at: path) { file in try await file.write(contentsOf: self) }
        } catch let error as HTTPClientError {
            throw error
        } catch {
            await owner.drop()
            throw owner.error(.file(error))
        }
    }
}

/// Ends the transfer when nobody can read it any more.
final class BodyOwner: Sendable {
    private let core: ClientCore
    private let id: TransferID
    private let operation: String
    private let url: String
    private let isOver = Atomic(false)

    init(_ core: ClientCore, _ id: TransferID, _ operation: String, _ url: String) {
        self.core = core
        self.id = id
        self.operation = operation
        self.url = url
    }

    deinit {
        if isOver.load(ordering: .relaxed) { return }
        let (core, id) = (core, id)
        Task { await core.drop(id) }
    }

    func next() async throws(HTTPClientError) -> [UInt8]? {
        if isOver.load(ordering: .relaxed) { return nil }
        if Task.isCancelled {
            await drop()
            throw error(.cancelled)
        }
        do throws(HTTPClientError) {
            if let bytes = try await core.next(id) { return bytes }
        } catch {
            isOver.store(true, ordering: .relaxed)
            throw error
        }
        isOver.store(true, ordering: .relaxed)
        return nil
    }

    func drop() async {
        isOver.store(true, ordering: .relaxed)
        await core.drop(id)
    }

    func error(_ cause: HTTPClientError.Cause) -> HTTPClientError { HTTPClientError(operation, url, cause) }
}
