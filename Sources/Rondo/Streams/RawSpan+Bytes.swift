// What reading bytes needs and RawSpan does not have.

import Glibc

extension RawSpan {
    /// The byte at an offset.
    func byte(at offset: Int) -> UInt8 {
        require(offset >= 0 && offset < byteCount, "byte \(offset) of \(byteCount)")
        // SAFETY: within the span, and any byte is a number.
        return unsafe unsafeLoad(fromByteOffset: offset, as: UInt8.self)
    }

    /// Where `pattern`, which is not empty, begins for the first time.
    func firstIndex(of pattern: [UInt8]) -> Int? {
        // SAFETY: looks at the bytes of both within the call; every range is checked against their counts.
        unsafe withUnsafeBytes { bytes in
            unsafe pattern.withUnsafeBytes { pattern in
                guard let start = bytes.baseAddress else { return nil }
                var index = 0
                while bytes.count - index >= pattern.count {
                    let places = bytes.count - index - pattern.count + 1
                    guard let found = unsafe memchr(start + index, Int32(pattern[0]), places) else { return nil }
                    if unsafe memcmp(found, pattern.baseAddress!, pattern.count) == 0 {
                        return unsafe UnsafeRawPointer(found) - start
                    }
                    index = unsafe UnsafeRawPointer(found) - start + 1
                }
                return nil
            }
        }
    }
}

extension String {
    /// The text that UTF-8 stands for; what is none is replaced by U+FFFD.
    init(copying bytes: RawSpan) {
        // SAFETY: reads the span's bytes within the call.
        self = unsafe bytes.withUnsafeBytes { unsafe String(decoding: $0, as: UTF8.self) }
    }
}
