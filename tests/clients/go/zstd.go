package main

import (
	"io"

	"connectrpc.com/connect"
	"github.com/klauspost/compress/zstd"
)

// acceptZstd adds zstd, which connect-go leaves to its users.
func acceptZstd() connect.ClientOption {
	return connect.WithAcceptCompression("zstd",
		func() connect.Decompressor {
			return &zstdReader{must(zstd.NewReader(nil, zstd.WithDecoderConcurrency(1)))}
		},
		func() connect.Compressor { return must(zstd.NewWriter(io.Discard, zstd.WithEncoderConcurrency(1))) },
	)
}

// zstdReader can be reset after it is closed, as connect-go needs it.
type zstdReader struct{ *zstd.Decoder }

func (reader *zstdReader) Close() error { return reader.Reset(nil) }
