import CRondo
import Glibc
public import SystemPackage

/// What the system knows of a file besides its content.
public struct FileStatus: Hashable, Sendable {
    /// What a path names.
    public enum Kind: Hashable, Sendable {
        case regular, directory, symbolicLink, socket, pipe, characterDevice, blockDevice, unknown
    }

    /// What it is.
    public var kind: Kind
    /// Bytes.
    public var size: Int64
    /// Who may read, write and run it.
    public var permissions: FilePermissions
    /// When the content was last changed, as time since 1970 began.
    public var modified: Duration
    /// Together with `device` the file's identity.
    public var inode: UInt64
    /// The file system that it is on.
    public var device: UInt64
    /// How many names it has.
    public var links: Int
    /// The owner's user id.
    public var owner: UInt32
    /// The owning group's id.
    public var group: UInt32

    init(_ raw: rondo_statx) {
        var status = rondo_file_status()
        var raw = raw
        // SAFETY: both values live across the call, which copies plain fields.
        unsafe rondo_statx_decode(&raw, &status)
        kind = Kind(mode: status.mode)
        size = Int64(status.size)
        permissions = FilePermissions(rawValue: CInterop.Mode(status.mode & 0o7777))
        modified = .seconds(status.modified_seconds) + .nanoseconds(Int64(status.modified_nanoseconds))
        inode = status.inode
        device = status.device
        links = Int(status.links)
        owner = status.owner
        group = status.group
    }

    /// The status of what a path names; a symbolic link stands for what it points to.
    ///
    /// - Throws: `IOError`: `stat /none: No such file or directory`.
    public static func of(_ path: FilePath) async throws(IOError) -> FileStatus {
        let loop = EventLoop.required(for: "FileStatus.of")
        let raw = UnsafeMutablePointer<rondo_statx>.allocate(capacity: 1)
        // SAFETY: freed when this function returns, which is after the last completion.
        unsafe raw.initialize(to: rondo_statx())
        defer { unsafe raw.deallocate() }
        let answer = unsafe await path.withCopy { await unsafe loop.perform(.status(nil, $0, raw)) }
        if answer < 0 { throw IOError("stat", path.string, IOError.cause(ofAnswer: answer)) }
        return unsafe FileStatus(raw.pointee)
    }
}

extension FileStatus.Kind {
    init(mode: UInt32) {
        self =
            switch mode & S_IFMT {
            case S_IFREG: .regular
            case S_IFDIR: .directory
            case S_IFLNK: .symbolicLink
            case S_IFSOCK: .socket
            case S_IFIFO: .pipe
            case S_IFCHR: .characterDevice
            case S_IFBLK: .blockDevice
            default: .unknown
            }
    }

    /// From the type that a directory notes for an entry (`DT_REG`…); many file systems note none.
    init(directoryType: UInt8) { self.init(mode: UInt32(directoryType) << 12) }
}
