package memory

import (
	"context"
	"strings"

	gguf "github.com/gpustack/gguf-parser-go"

	ggufhead "github.com/pool-managerd/pool-managerd/units/gguf"
)

// maxBlocks bounds the layers of a model, over which the estimate iterates; LLAMA_MAX_LAYERS of
// llama.cpp is 512.
const maxBlocks = 4096

// readHeaders reads the headers of a model's parts, the first of which has the metadata, into the
// types of the estimating library, whose own reader trusts the counts in the file.
func readHeaders(ctx context.Context, paths []string) (*gguf.GGUFFile, error) {
	all := &gguf.GGUFFile{}
	for i, path := range paths {
		h, size, err := ggufhead.Open(ctx, path)
		if err != nil {
			return nil, err
		}
		part, err := fileOf(h, size)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			all.Header = part.Header
		}
		all.TensorInfos = append(all.TensorInfos, part.TensorInfos...)
		if len(all.TensorInfos) > maxTensors {
			return nil, ggufhead.ErrStrange
		}
		all.Size += part.Size
		all.ModelSize += part.ModelSize
	}
	all.Header.TensorCount = uint64(len(all.TensorInfos))
	return all, nil
}

// maxTensors bounds the tensors of all parts together.
const maxTensors = 16384

// fileOf converts a header to the library's type.
func fileOf(h ggufhead.Header, size uint64) (*gguf.GGUFFile, error) {
	file := &gguf.GGUFFile{
		Size:      gguf.GGUFBytesScalar(size),
		ModelSize: gguf.GGUFBytesScalar(size - min(size, h.Bytes)),
		Header: gguf.GGUFHeader{Magic: gguf.GGUFMagicGGUFLe, Version: gguf.GGUFVersion(h.Version),
			TensorCount: uint64(len(h.Tensors)), MetadataKVCount: uint64(len(h.Pairs))},
	}
	for _, p := range h.Pairs {
		kv := gguf.GGUFMetadataKV{Key: p.Key, ValueType: gguf.GGUFMetadataValueType(p.Type), Value: p.Value}
		if a, ok := p.Value.(ggufhead.Array); ok {
			if a.Type == ggufhead.List {
				return nil, ggufhead.ErrStrange // no model has arrays of arrays
			}
			kv.Value = gguf.GGUFMetadataKVArrayValue{Type: gguf.GGUFMetadataValueType(a.Type), Len: a.Len,
				Array: a.Items, StartOffset: int64(a.Offset), Size: int64(a.Bytes)}
		}
		if strings.HasSuffix(p.Key, ".block_count") && kv.ValueType.IsNumeric() &&
			gguf.ValueNumeric[float64](kv) > maxBlocks {
			return nil, ggufhead.ErrStrange
		}
		file.Header.MetadataKV = append(file.Header.MetadataKV, kv)
	}
	for _, t := range h.Tensors {
		file.TensorInfos = append(file.TensorInfos, gguf.GGUFTensorInfo{
			Name: t.Name, NDimensions: uint32(len(t.Dims)), Dimensions: t.Dims, StartOffset: int64(t.At),
			Type: gguf.GGMLType(t.Type), Offset: t.Offset,
		})
	}
	return file, nil
}
