// Settings of a connection.

import SystemPackage

extension TCPStream {
    /// Changes settings, in this order.
    ///
    /// - Throws: `IOError`: `.closed`, or what the kernel says of a value.
    public func set(_ options: TCPOption...) async throws(IOError) {
        try await loop.onLoop { () async throws(IOError) in
            if isClosed { throw error("set an option of", .closed) }
            do throws(Errno) {
                try loop.driver.set(options, of: descriptor)
            } catch {
                throw self.error("set an option of", .system(error))
            }
        }
    }

    /// What is set now.
    public var settings: TCPSettings {
        get async throws(IOError) {
            try await loop.onLoop { () async throws(IOError) in
                if isClosed { throw error("look at the options of", .closed) }
                do throws(Errno) {
                    return try TCPSettings { (option) throws(Errno) in
                        try loop.driver.numberOption(option, of: descriptor)
                    }
                } catch {
                    throw self.error("look at the options of", .system(error))
                }
            }
        }
    }
}

extension Driver {
    /// Sets options of a socket.
    func set(_ options: [TCPOption], of socket: Descriptor) throws(Errno) {
        for option in options {
            for (option, values) in option.settings { try setOption(option, of: socket, toFields: values) }
        }
    }
}
