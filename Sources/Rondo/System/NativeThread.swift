import CRondo
import Glibc
package import SystemPackage

/// A thread of the system.
@safe
package struct NativeThread {
    // SAFETY: the thread takes over the reference to what it runs; `join` is called once, by whoever started it.
    private let handle: pthread_t

    /// Starts a thread, which ends when `body` returns.
    ///
    /// - Parameter name: what ps, top and debuggers show; 15 bytes are kept.
    /// - Throws: the system's reason; usually a limit of the process or its cgroup.
    package init(_ name: String, _ body: sending @escaping () -> Void) throws(Errno) {
        let main = Main(name: name, body: body)
        var handle = pthread_t()
        let answer = unsafe pthread_create(
            &handle, nil,
            { argument in
                let main = unsafe Unmanaged<Main>.fromOpaque(argument!).takeRetainedValue()
                unsafe rondo_name_thread(main.name)
                main.body()
                return nil
            }, Unmanaged.passRetained(main).toOpaque())
        if answer != 0 {
            unsafe Unmanaged.passUnretained(main).release()
            throw Errno(rawValue: answer)
        }
        self.handle = handle
    }

    /// Waits until the thread has ended. Once.
    package func join() { _ = pthread_join(handle, nil) }

    /// Lets the thread end by itself. Once, instead of `join`.
    package func detach() { _ = pthread_detach(handle) }

    private final class Main {
        let name: String
        let body: () -> Void
        init(name: String, body: @escaping () -> Void) {
            self.name = name
            self.body = body
        }
    }
}
