/// A file descriptor of the driver's world: the kernel's for the real drivers, a number of its own in a simulation.
///
/// It owns nothing. Who owns it (a stream, a listener, a file) closes it by an operation, after every other operation
/// on it has ended.
package struct Descriptor: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    package let rawValue: Int32

    @inline(__always)
    package init(rawValue: Int32) { self.rawValue = rawValue }

    package var description: String { "descriptor \(rawValue)" }
}
