// What a file's name says about its content.

/// Types of content.
enum MediaType {
    static func of(_ fileExtension: String?) -> String {
        switch fileExtension?.lowercased() {
        case "html", "htm": "text/html; charset=utf-8"
        case "css": "text/css; charset=utf-8"
        case "js", "mjs": "text/javascript; charset=utf-8"
        case "txt", "md", "log": "text/plain; charset=utf-8"
        case "csv": "text/csv; charset=utf-8"
        case "json", "map": "application/json"
        case "xml": "application/xml"
        case "svg": "image/svg+xml"
        case "png": "image/png"
        case "jpg", "jpeg": "image/jpeg"
        case "gif": "image/gif"
        case "webp": "image/webp"
        case "ico": "image/x-icon"
        case "pdf": "application/pdf"
        case "wasm": "application/wasm"
        case "woff2": "font/woff2"
        case "mp4": "video/mp4"
        case "gz": "application/gzip"
        case "zip": "application/zip"
        default: "application/octet-stream"
        }
    }

    /// Whether it becomes much smaller by compression. What nobody knows is left as it is.
    static func isCompressible(_ type: String) -> Bool {
        type.hasPrefix("text/") || type.hasSuffix("json") || type.hasSuffix("xml") || type == "application/wasm"
    }
}
