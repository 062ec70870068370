// A file system in memory: the tree, and what tests do with it. The operations are in SimulatedFiles+Operations.
//
// Paths are relative to the root; `.`, `..` and repeated slashes are understood. There are no links, owners or
// permissions: everybody may do everything.

import Glibc
import Rondo

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
        guard let name = Self.names(in: path).last, case .success(let folder) = findParent(of: path),
            let node = folder.children.removeValue(forKey: name)
        else { return false }
        forget(node)
        return true
    }

    // MARK: The tree

    /// The names of a path from the root, `.` and `..` resolved.
    static func names(in path: String) -> [String] {
        var names: [String] = []
        for name in path.split(separator: "/") where name != "." {
            if name == ".." { _ = names.popLast() } else { names.append(String(name)) }
        }
        return names
    }

    /// Follows names from the root.
    private func walk(_ names: some Sequence<String>) -> Result<SimulatedNode, SimulatedErrno> {
        var node = root
        for name in names {
            guard node.isFolder else { return .failure(.init(ENOTDIR)) }
            guard let child = node.children[name] else { return .failure(.init(ENOENT)) }
            node = child
        }
        return .success(node)
    }

    func find(_ path: String) -> Result<SimulatedNode, SimulatedErrno> {
        if path.isEmpty { return .failure(.init(ENOENT)) }
        let result = walk(Self.names(in: path))
        if case .success(let node) = result, path.hasSuffix("/"), !node.isFolder { return .failure(.init(ENOTDIR)) }
        return result
    }

    /// The folder that holds, or would hold, what a path names.
    func findParent(of path: String) -> Result<SimulatedNode, SimulatedErrno> {
        let result = walk(Self.names(in: path).dropLast())
        if case .success(let node) = result, !node.isFolder { return .failure(.init(ENOTDIR)) }
        return result
    }

    /// Adds an empty node.
    func add(_ name: String, to folder: SimulatedNode, isFolder: Bool, mode: UInt32) -> SimulatedNode {
        nodeCount += 1
        let node = SimulatedNode(inode: nodeCount, isFolder: isFolder, mode: mode, modified: world.now)
        folder.children[name] = node
        folder.modified = world.now
        return node
    }

    private func makeParent(of path: String) -> (SimulatedNode, String) {
        var names = Self.names(in: path)
        guard let last = names.popLast() else { crash("simulated files: \(path) names nothing but the root") }
        var folder = root
        for name in names {
            folder = folder.children[name] ?? add(name, to: folder, isFolder: true, mode: 0o755)
            require(folder.isFolder, "simulated files: \(name) in \(path) is a file")
        }
        return (folder, last)
    }

    /// A node left the tree.
    private func forget(_ node: SimulatedNode) {
        node.links = 0
        if !node.isFolder, node.openCount == 0 { usedBytes -= node.bytes.count }
        for child in node.children.values { forget(child) }  // in any order: it only counts
    }

    /// An open file was closed.
    func didClose(_ node: SimulatedNode) {
        node.openCount -= 1
        if node.openCount == 0, node.links == 0, !node.isFolder { usedBytes -= node.bytes.count }
    }
}

/// A file or a folder.
final class SimulatedNode {
    let inode: UInt64
    let isFolder: Bool
    let mode: UInt32
    /// A file's contents.
    var bytes: [UInt8] = []
    /// What is in a folder. Asked by name, or walked in sorted order.
    var children: [String: SimulatedNode] = [:]
    /// Virtual time of the last change.
    var modified: UInt64
    /// 1 while it is in the tree.
    var links: UInt32 = 1
    /// Descriptors that are open on it.
    var openCount = 0

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

    override func close() { files.didClose(node) }
}
