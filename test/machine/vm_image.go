package machine

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kernelRelease is where the kernel of every VM comes from. Its 6.1 runs under all versions of
// qemu; qemu 7.2 with the kernels of newer releases crashes in half of its boots without KVM.
const kernelRelease = Bookworm

// kernelModules are the drivers of the agent's port, in the order to load them in, and what a file
// system with quotas takes that a test makes in a file. What the kernel needs to find its root file
// system, NVMe and ext4, is built into it.
func kernelModules() []string {
	return []string{"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
		"virtio_console", "loop", "quota_tree", "quota_v2"}
}

// The image of a root file system: a disk with one partition, which the kernel finds by its
// PARTUUID.
const (
	imageVersion   = "1"           // to be raised when an image is made in another way
	imageFree      = 2 << 30       // bytes of room beside the content
	partitionStart = 1 << 20       // bytes
	diskSignature  = 0x706f6f6c    // of the partition table
	rootPartition  = "706f6f6c-01" // PARTUUID: the signature and the number of the partition
	sectorSize     = 512
)

// BuildVM builds what a VM of the recipe boots from beside its root file system: the kernel and the
// image of a disk.
func BuildVM(ctx context.Context, r Recipe, log func(string)) error {
	root, err := Build(ctx, r, log)
	if err != nil {
		return err
	}
	if _, err := buildKernel(ctx, log); err != nil {
		return err
	}
	_, err = buildImage(ctx, root, log)
	return err
}

// buildKernel returns a directory with vmlinuz and the modules of kernelModules.
func buildKernel(ctx context.Context, log func(string)) (string, error) {
	const pkg = "linux-image-cloud-amd64"
	name := "kernel-" + contentKey(string(kernelRelease), pkg, strings.Join(kernelModules(), ","))
	return cached(ctx, "kernels", name, func(path string, lock *os.File) error {
		say(log, "fetching the kernel of %s", kernelRelease)
		tree := path + "-tree"
		defer os.RemoveAll(tree)
		if err := os.RemoveAll(tree); err != nil {
			return err
		}
		// Only unpacked, not installed: a kernel's scripts would build an initrd.
		err := runMmdebstrap(ctx, kernelRelease, []string{"--variant=extract", "--mode=root", "--include=" + pkg}, tree,
			lock)
		if err != nil {
			return err
		}
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		if err := takeOne(filepath.Join(tree, "boot"), "vmlinuz-*", filepath.Join(path, "vmlinuz")); err != nil {
			return err
		}
		for i, module := range kernelModules() {
			target := filepath.Join(path, fmt.Sprintf("%02d-%s.ko", i, module))
			if err := takeOne(filepath.Join(tree, "lib/modules"), module+".ko", target); err != nil {
				return err
			}
		}
		return nil
	})
}

// takeOne moves the one file below dir whose name matches the pattern.
func takeOne(dir, pattern, target string) error {
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if match, _ := filepath.Match(pattern, d.Name()); match && err == nil {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("the kernel's package has %d files %s, not one", len(found), pattern)
	}
	return os.Rename(found[0], target)
}

// buildImage returns the image of a disk with the root file system in its one partition.
func buildImage(ctx context.Context, root string, log func(string)) (string, error) {
	return cached(ctx, "images", filepath.Base(root)+"-v"+imageVersion+".img", func(path string, lock *os.File) error {
		if err := needTools("mke2fs"); err != nil {
			return err
		}
		say(log, "making the disk of %s", filepath.Base(root))
		content, err := treeSize(root)
		if err != nil {
			return err
		}
		size := (content + content/4 + imageFree) / (1 << 20) * (1 << 20)
		if err := writePartitionTable(path, size); err != nil {
			return err
		}
		// Writes the tree into the file system without a loop device. Lazy tables would be filled
		// while tests run.
		cmd := exec.CommandContext(ctx, toolPath("mke2fs"), "-q", "-F", "-t", "ext4", "-L", "root", "-d", root,
			"-E", fmt.Sprintf("offset=%d,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0", partitionStart),
			"-O", "^metadata_csum_seed,^orphan_file", "-m", "0", path, fmt.Sprintf("%dk", size>>10))
		cmd.ExtraFiles = []*os.File{lock}
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("mke2fs: %w\n%s", err, lastLines(string(text), 10))
		}
		return nil
	})
}

// treeSize is the disk space of a tree's files in bytes, each at least one block.
func treeSize(root string) (int64, error) {
	var size int64
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size += 4096
		if info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size, err
}

// writePartitionTable makes a sparse file with an MBR (its layout: "Master boot record" in the UEFI
// specification, 5.2.1) and one Linux partition of that many bytes.
func writePartitionTable(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	mbr := make([]byte, sectorSize)
	binary.LittleEndian.PutUint32(mbr[440:], diskSignature)
	entry := mbr[446:]
	entry[4] = 0x83 // Linux
	binary.LittleEndian.PutUint32(entry[8:], partitionStart/sectorSize)
	binary.LittleEndian.PutUint32(entry[12:], uint32(size/sectorSize))
	mbr[510], mbr[511] = 0x55, 0xaa
	if _, err := f.Write(mbr); err != nil {
		return err
	}
	return f.Truncate(partitionStart + size)
}

// buildAgent compiles the agent for the VM and returns its content.
func buildAgent(ctx context.Context, dir string) ([]byte, error) {
	path := filepath.Join(dir, "agent")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path,
		agentPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the VM's agent: %w\n%s", err, lastLines(string(text), 10))
	}
	return os.ReadFile(path)
}

// agentPackage is compiled wherever a VM is booted, which is inside of this module.
const agentPackage = "github.com/pool-managerd/pool-managerd/test/machine/agent"
