// A file system in memory: the tree, and what tests do with it. The operations are in SimulatedFiles+Operations.
//
// Paths are relative to the root. There are hard and symbolic links; there are no owners, and permissions are noted but
// not asked: everybody may do everything. Every byte up to a file's end takes room, also where nothing was written.

import Glibc
import Rondo
public import SystemPackage

/// The files of a simulation.
@safe
public final class SimulatedFiles: @unchecked Sendable {
    // SAFETY: belongs to the simulation's thread.

    unowned let world: SimulatedWorld
    /// Latencies, partial results, and the order of listings.
    var numbers: SeededGenerator
    let root: SimulatedNode
    /// Nodes made so far.
    private var nodeCount: UInt64 = 0
    /// Bytes in all files that are in the tree or open.
    var usedBytes = 0

    init(world: SimulatedWorld) {
        self.world = world
        numbers = SimulatedWorld.numbers(world.seed, purpose: 5)
        root = SimulatedNode(inode: 1, isFolder: true, mode: 0o755, modified: world.now)
        root.links = 1
        nodeCount = 1
    }

    // MARK: For tests

    /// Writes a whole file, and makes the folders that it needs.
    ///
    /// Crashes if a file stands where a folder is needed, or a folder where the file should be.
    public func write(_ path: String, _ bytes: [UInt8]) {
        let (folder, name) = makeParent(of: path)
        let node = folder.children[name] ?? add(name, to: folder, isFolder: false, mode: 0o644)
        require(!node.isFolder, "simulated files: \(path) is a folder")
        usedBytes += bytes.count - node.bytes.count
        node.bytes = bytes
        node.modified = world.now
    }

    /// Writes a whole text file.
    public func write(_ path: String, _ text: String) { write(path, Array(text.utf8)) }

    /// Makes a folder, and the folders that it needs.
    public func makeFolder(_ path: String) {
        let (folder, name) = makeParent(of: path)
        let node = folder.children[name] ?? add(name, to: folder, isFolder: true, mode: 0o755)
        require(node.isFolder, "simulated files: \(path) is a file")
    }

    /// The bytes of a file; nil if there is no such file.
    public func read(_ path: String) -> [UInt8]? {
        guard case .success(let node) = find(path), !node.isFolder else { return nil }
        return node.bytes
    }

    /// The names in a folder, sorted; nil if there is no such folder.
    public func list(_ path: String) -> [String]? {
        guard case .success(let node) = find(path), node.isFolder else { return nil }
        return node.children.keys.sorted()
    }

    /// Removes a file or a folder with all that is in it. Who has a file open goes on with it.
    ///
    /// - Returns: whether there was one.
    @discardableResult
    public func remove(_ path: String) -> Bool {
        guard case .success(let place) = resolve(path, followsLast: false), place.node != nil, place.name != nil
        else { return false }
        removeName(at: place)
        return true
    }

    /// Opens a file for reading and writing, for what takes a descriptor of the program's own: to pass it on through a
    /// Unix socket, or to share it. Close it with ``close(_:)``.
    ///
    /// Crashes if the simulation has no descriptor left.
    ///
    /// - Returns: a number that means something in this simulation only; nil if there is no such file.
    public func open(_ path: String) -> FileDescriptor? {
        guard case .success(let node) = find(path), !node.isFolder, !node.isSocket else { return nil }
        let file = SimulatedOpenFile(files: self, node: node, path: path, flags: O_RDWR)
        guard let descriptor = world.descriptors.open(file) else { crash("simulated files: no descriptor is left") }
        return FileDescriptor(rawValue: descriptor.rawValue)
    }

    /// Closes a descriptor of this simulation: one of ``open(_:)``, or one that was received and taken.
    ///
    /// Crashes if it is not open.
    public func close(_ descriptor: FileDescriptor) {
        guard let object = world.descriptors.close(Descriptor(rawValue: descriptor.rawValue)) else {
            crash("simulated files: descriptor \(descriptor.rawValue) is not open")
        }
        object.letGo()
    }

    // MARK: The tree

    /// Follows a path from a folder, or from the root if it is absolute.
    ///
    /// - Parameter followsLast: whether a symbolic link at the end stands for what it points to.
    /// - Parameter staysBelow: whether leaving `base` is refused (EXDEV).
    /// - Returns: the place, at which there need not be anything yet.
    func resolve(
        _ path: String, from base: SimulatedNode? = nil, followsLast: Bool = true, staysBelow: Bool = false
    ) -> Result<SimulatedPlace, SimulatedErrno> {
        if path.isEmpty { return .failure(.init(ENOENT)) }
        if staysBelow, path.hasPrefix("/") { return .failure(.init(EXDEV)) }
        var place = SimulatedPlace(folder: root, name: nil, node: path.hasPrefix("/") ? root : base ?? root)
        var rest = Array(path.split(separator: "/").map(String.init).reversed())
        var linksLeft = 40
        while let name = rest.popLast() {
            guard let folder = place.node else { return .failure(.init(ENOENT)) }
            guard folder.isFolder else { return .failure(.init(ENOTDIR)) }
            if name == "." { continue }
            if name == ".." {
                if staysBelow, folder === base { return .failure(.init(EXDEV)) }
                place = SimulatedPlace(folder: root, name: nil, node: folder.parent ?? root)
                continue
            }
            let child = folder.children[name]
            if let target = child?.target, !rest.isEmpty || followsLast || path.hasSuffix("/") {
                linksLeft -= 1
                if linksLeft < 0 { return .failure(.init(ELOOP)) }
                if staysBelow, target.hasPrefix("/") { return .failure(.init(EXDEV)) }
                rest += target.split(separator: "/").map(String.init).reversed()
                place = SimulatedPlace(folder: root, name: nil, node: target.hasPrefix("/") ? root : folder)
            } else {
                place = SimulatedPlace(folder: folder, name: name, node: child)
            }
        }
        if path.hasSuffix("/"), let node = place.node, !node.isFolder { return .failure(.init(ENOTDIR)) }
        return .success(place)
    }

    /// What a path names.
    func find(
        _ path: String, from base: SimulatedNode? = nil, followsLast: Bool = true, staysBelow: Bool = false
    ) -> Result<SimulatedNode, SimulatedErrno> {
        resolve(path, from: base, followsLast: followsLast, staysBelow: staysBelow).flatMap { place in
            place.node.map { .success($0) } ?? .failure(.init(ENOENT))
        }
    }

    /// Adds an empty node.
    func add(_ name: String, to folder: SimulatedNode, isFolder: Bool, mode: UInt32) -> SimulatedNode {
        let node = makeNode(isFolder: isFolder, mode: mode)
        put(node, at: name, in: folder)
        return node
    }

    /// A node that is not in the tree.
    func makeNode(isFolder: Bool, mode: UInt32) -> SimulatedNode {
        nodeCount += 1
        return SimulatedNode(inode: nodeCount, isFolder: isFolder, mode: mode, modified: world.now)
    }

    /// Gives a node a name.
    func put(_ node: SimulatedNode, at name: String, in folder: SimulatedNode) {
        node.links += 1
        if node.isFolder { node.parent = folder }
        folder.children[name] = node
        folder.modified = world.now
    }

    /// Takes a name out of the tree, and what has no other name.
    func removeName(at place: SimulatedPlace) {
        guard let name = place.name, let node = place.folder.children.removeValue(forKey: name) else { return }
        place.folder.modified = world.now
        forget(node)
    }

    private func makeParent(of path: String) -> (SimulatedNode, String) {
        var names = path.split(separator: "/").map(String.init)
        guard let last = names.popLast() else { crash("simulated files: \(path) names nothing but the root") }
        var folder = root
        for name in names {
            folder = folder.children[name] ?? add(name, to: folder, isFolder: true, mode: 0o755)
            require(folder.isFolder, "simulated files: \(name) in \(path) is a file")
        }
        return (folder, last)
    }

    /// A node has lost a name.
    private func forget(_ node: SimulatedNode) {
        node.links -= 1
        if !node.isFolder, node.openCount == 0, node.links == 0 { usedBytes -= node.bytes.count }
        for child in node.children.values { forget(child) }  // in any order: it only counts
    }

    /// An open file was closed.
    func didClose(_ node: SimulatedNode) {
        node.openCount -= 1
        if node.openCount == 0, node.links == 0, !node.isFolder { usedBytes -= node.bytes.count }
    }
}

/// Where a path leads.
struct SimulatedPlace {
    /// The folder that holds the name.
    var folder: SimulatedNode
    /// The last name of the path; nil for the root, `.` and `..`.
    var name: String?
    /// What is there.
    var node: SimulatedNode?
}

/// A file, a folder, a symbolic link or the file of a socket.
final class SimulatedNode {
    let inode: UInt64
    let isFolder: Bool
    var mode: UInt32
    /// A file's contents.
    var bytes: [UInt8] = []
    /// What is in a folder. Asked by name, or walked in sorted order.
    var children: [String: SimulatedNode] = [:]
    /// The folder that a folder is in.
    weak var parent: SimulatedNode?
    /// A symbolic link's text.
    var target: String?
    /// Whether it is the file of a Unix socket.
    var isSocket = false
    /// The socket, while it is open.
    weak var socket: SimulatedUnixSocket?
    /// Virtual time of the last change.
    var modified: UInt64 { didSet { setTime = nil } }
    /// The time of the last change that somebody has set since, as seconds since 1970.
    var setTime: (seconds: Int64, nanoseconds: UInt32)?
    /// How many names it has.
    var links: UInt32 = 0
    /// Descriptors that are open on it.
    var openCount = 0
    /// Who has locked it, and who waits for that.
    var locks = SimulatedLocks()

    init(inode: UInt64, isFolder: Bool, mode: UInt32, modified: UInt64) {
        self.inode = inode
        self.isFolder = isFolder
        self.mode = mode
        self.modified = modified
    }
}

/// Why a path leads nowhere.
struct SimulatedErrno: Error {
    let code: Int32
    init(_ code: Int32) { self.code = code }
}

/// A file or folder that was opened.
final class SimulatedOpenFile: SimulatedObject {
    private unowned let files: SimulatedFiles
    let node: SimulatedNode
    let path: String
    let flags: Int32
    /// Where the next read or write without an offset goes.
    var position = 0
    /// The entries of a folder that were not listed yet, once listing has begun.
    var unlisted: [(name: String, type: UInt8)]?

    init(files: SimulatedFiles, node: SimulatedNode, path: String, flags: Int32) {
        self.files = files
        self.node = node
        self.path = path
        self.flags = flags
        node.openCount += 1
    }

    var canRead: Bool { flags & O_ACCMODE != O_WRONLY }
    var canWrite: Bool { flags & O_ACCMODE != O_RDONLY }
    var appends: Bool { flags & O_APPEND != 0 }

    override var description: String { "the \(node.isFolder ? "folder" : "file") \(path)" }

    override func close() {
        node.locks.release(self, world: files.world)
        files.didClose(node)
    }
}
