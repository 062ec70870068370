// A file as an answer: which of its forms the client wants, and whether it has that already.

import HTTPTypes
import Rondo
import SystemPackage

extension StaticFiles {
    /// Smaller files take one packet either way.
    private static let smallestCompressed: Int64 = 1000

    /// Bytes of a file that a client must take within ``HTTPTimeouts/write``, and that are in memory at a time if the
    /// kernel can't send them by itself; and those to be compressed, which take a thread of the offload pool about a
    /// millisecond.
    private static let pieceSize = 256 * 1024
    private static let compressedPieceSize: Int64 = 64 * 1024

    func send(
        _ file: File, _ status: FileStatus, _ request: ServerRequest, _ response: ServerResponse
    ) async throws {
        let type = MediaType.of(file.path.extension)
        let date = String(decoding: HTTPDate.text(of: Int(status.modified.components.seconds)), as: UTF8.self)
        let (tag, packedTag) = (Self.tag(status), Self.tag(status, suffix: "-gzip"))
        let isCompressible =
            compressionsAtOnce > 0 && status.size >= Self.smallestCompressed && MediaType.isCompressible(type)
        if isCompressible { response.headers[.vary] = "Accept-Encoding" }
        response.headers[.lastModified] = date
        let range = Self.range(request, status.size, tag, date)
        // A range is one of the file as it is.
        let wantsPacked =
            isCompressible && range == .ignored && ContentCoding(request.headers[.acceptEncoding]).prefersGzip
        let tags = wantsPacked ? [packedTag, tag] : [tag]
        if let answer = Self.precondition(request.headers, tags, date) {
            response.headers[.eTag] = answer.tag
            return try await response.send(answer.status)
        }
        response.headers[.contentType] = type
        if wantsPacked, request.method == .head || compressions.begin(limit: compressionsAtOnce) {
            response.headers[.eTag] = packedTag
            response.headers[.contentEncoding] = "gzip"
            if request.method == .head { return try await response.finish() }
            defer { compressions.end() }
            return try await sendPacked(file, status.size, response)
        }
        response.headers[.eTag] = tag
        try await send(file, status.size, range, isHead: request.method == .head, response)
    }

    /// Changes whenever the file's size or time does.
    static func tag(_ status: FileStatus, suffix: String = "") -> String {
        let (seconds, attoseconds) = status.modified.components
        let nanoseconds = seconds &* 1_000_000_000 &+ attoseconds / 1_000_000_000
        return "\"\(String(nanoseconds, radix: 16))-\(String(status.size, radix: 16))\(suffix)\""
    }

    // MARK: What the client wants

    /// The range that is asked for, if it is asked for of the file as it is now.
    private static func range(_ request: ServerRequest, _ size: Int64, _ tag: String, _ date: String) -> ByteRange {
        guard request.method == .get, let field = request.headers[.range] else { return .ignored }
        if let condition = request.headers[.ifRange], condition != tag, condition != date { return .ignored }
        return ByteRange(field, of: size)
    }

    /// What the client's conditions make of the answer; nil for nothing.
    private static func precondition(
        _ fields: HTTPFields, _ tags: [String], _ date: String
    ) -> (status: HTTPResponse.Status, tag: String)? {
        if let wanted = fields[.ifMatch], wanted != "*", !listed(wanted).contains(where: tags.contains) {
            return (.preconditionFailed, tags[0])
        }
        if let known = fields[.ifNoneMatch] {
            if known == "*" { return (.notModified, tags[0]) }
            let known = listed(known).map { $0.hasPrefix("W/") ? String($0.dropFirst(2)) : $0 }
            return tags.first(where: known.contains).map { (.notModified, $0) }
        }
        return fields[.ifModifiedSince] == date ? (.notModified, tags[0]) : nil
    }

    /// The tags of a list. Ours have no comma in them.
    private static func listed(_ field: String) -> [String] {
        field.split(separator: ",").map {
            String($0.drop { $0 == " " || $0 == "\t" }.prefix { $0 != " " && $0 != "\t" })
        }
    }

    // MARK: Bytes

    private func send(
        _ file: File, _ size: Int64, _ range: ByteRange, isHead: Bool, _ response: ServerResponse
    ) async throws {
        response.headers[.acceptRanges] = "bytes"
        var bytes = 0..<size
        switch range {
        case .ignored: break
        case .unsatisfiable:
            response.headers[.contentType] = nil
            response.headers[.contentRange] = "bytes */\(size)"
            return try await response.send(.rangeNotSatisfiable)
        case .part(let part):
            bytes = part
            response.status = .partialContent
            response.headers[.contentRange] = "bytes \(part.lowerBound)-\(part.upperBound - 1)/\(size)"
        }
        response.headers[.contentLength] = String(bytes.count)
        if !isHead {
            let source = file.source(from: bytes.lowerBound)
            while source.offset < bytes.upperBound {
                let count = min(Int(bytes.upperBound - source.offset), Self.pieceSize)
                if try await response.write(from: source, limit: count) == 0 { throw Self.endsEarly(file) }
            }
        }
        try await response.finish()
    }

    private func sendPacked(_ file: File, _ size: Int64, _ response: ServerResponse) async throws {
        guard let deflater = Deflater() else { throw IOError("compress", file.path.string, .system(.noMemory)) }
        var position: Int64 = 0
        while position < size {
            let piece = try await read(file, min(size - position, Self.compressedPieceSize), at: position)
            position += Int64(piece.count)
            let isLast = position == size
            let packed = try await offload { deflater.pack(piece, isLast: isLast) }
            try await response.write(packed)
        }
        try await response.finish()
    }

    private func read(_ file: File, _ count: Int64, at position: Int64) async throws -> [UInt8] {
        let bytes = try await file.read(Int(count), at: position)
        if bytes.isEmpty { throw Self.endsEarly(file) }
        return bytes
    }

    /// It has become shorter: the connection breaks, as the client can't be told otherwise.
    private static func endsEarly(_ file: File) -> IOError { IOError("read", file.path.string, .unexpectedEnd) }
}
