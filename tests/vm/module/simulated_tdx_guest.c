// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel of a TDX guest offers, on a machine without TDX. For tests alone: everything that it gives is SIMULATED.
 *
 * - The tsm provider "tdx_guest" (Documentation/ABI/testing/configfs-tsm-report): who asks for a quote meets the kernel's
 *   own configfs-tsm, and behind it this module in the place of the driver.
 * - The measurement file of RTMR3 (Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest, Linux 6.16): a write of
 *   exactly 48 bytes at offset 0 extends the register.
 *
 * A quoting service on the host makes the quotes. It is reached through a virtio-serial port:
 *
 *   request  64 bytes of report data, 48 bytes of RTMR3
 *   answer   a little-endian 32-bit number: the length of a quote, which follows, or the negative number of an error
 */
#include <crypto/hash.h>
#include <linux/fs.h>
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/tsm.h>
#include <linux/uaccess.h>

#define REPORT_DATA_SIZE 64
#define REGISTER_SIZE 48
/* The first port of the first virtio device. */
#define PORT "/dev/vport0p1"
/* The real driver gives up on a quote after a time, too: 30 seconds. */
#define PATIENCE (10 * HZ)

enum direction { TO_HOST, FROM_HOST };

/* Guards all that follows. */
static DEFINE_MUTEX(lock);
static u8 rtmr3[REGISTER_SIZE];
static struct file *port;
/* The host did not answer in time and may still do so: as with the real driver, nothing more can be asked. */
static bool owed;

/*
 * Moves some bytes without waiting. The port's driver reads and writes user memory alone: `page` is a page of the process
 * that asks for the quote.
 */
static ssize_t move_some(enum direction direction, u8 *bytes, size_t size, char __user *page)
{
	loff_t position = 0;
	ssize_t moved;

	size = min_t(size_t, size, PAGE_SIZE);
	if (direction == TO_HOST) {
		if (copy_to_user(page, bytes, size))
			return -EFAULT;
		return port->f_op->write(port, page, size, &position);
	}
	moved = port->f_op->read(port, page, size, &position);
	if (moved > 0 && copy_from_user(bytes, page, moved))
		return -EFAULT;
	return moved;
}

static int move_all(enum direction direction, void *bytes, size_t size, char __user *page, unsigned long deadline)
{
	u8 *next = bytes;

	while (size) {
		ssize_t moved = move_some(direction, next, size, page);

		if (moved > 0) {
			next += moved;
			size -= moved;
			continue;
		}
		if (moved == 0)
			return -EIO; /* nobody at the other end */
		if (moved != -EAGAIN)
			return moved;
		if (time_after(jiffies, deadline))
			return -ETIMEDOUT;
		if (fatal_signal_pending(current))
			return -EINTR;
		usleep_range(500, 1000);
	}
	return 0;
}

static int ask_host(const u8 *report_data, u8 **quote, size_t *quote_size, char __user *page)
{
	unsigned long deadline = jiffies + PATIENCE;
	u8 request[REPORT_DATA_SIZE + REGISTER_SIZE];
	__le32 header;
	s32 size;
	int error;

	memcpy(request, report_data, REPORT_DATA_SIZE);
	memcpy(request + REPORT_DATA_SIZE, rtmr3, REGISTER_SIZE);
	error = move_all(TO_HOST, request, sizeof(request), page, deadline);
	if (!error)
		error = move_all(FROM_HOST, &header, sizeof(header), page, deadline);
	if (error)
		return error;
	size = (s32)le32_to_cpu(header);
	if (size < 0)
		return size < -MAX_ERRNO ? -EIO : size;
	if (!size || size > TSM_OUTBLOB_MAX)
		return -EIO;
	*quote = kvmalloc(size, GFP_KERNEL);
	if (!*quote)
		return -ENOMEM;
	*quote_size = size;
	error = move_all(FROM_HOST, *quote, size, page, deadline);
	if (error)
		kvfree(*quote);
	return error;
}

static int open_port(void)
{
	struct file *file;

	if (port)
		return 0;
	file = filp_open(PORT, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
	if (IS_ERR(file))
		return PTR_ERR(file);
	if (!file->f_op->read || !file->f_op->write) {
		filp_close(file, NULL);
		return -ENODEV;
	}
	port = file;
	return 0;
}

static int report_new(struct tsm_report *report, void *data)
{
	unsigned long page;
	size_t size;
	u8 *quote;
	int error;

	if (report->desc.inblob_len != REPORT_DATA_SIZE)
		return -EINVAL;
	page = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
	if (IS_ERR_VALUE(page))
		return (int)page;
	mutex_lock(&lock);
	error = owed ? -EBUSY : open_port();
	if (!error)
		error = ask_host(report->desc.inblob, &quote, &size, (char __user *)page);
	owed |= error == -ETIMEDOUT || error == -EINTR;
	mutex_unlock(&lock);
	vm_munmap(page, PAGE_SIZE);
	if (error)
		return error;
	report->outblob = quote;
	report->outblob_len = size;
	return 0;
}

static bool has_attribute(int attribute)
{
	return attribute == TSM_REPORT_GENERATION || attribute == TSM_REPORT_PROVIDER;
}

static bool has_bin_attribute(int attribute)
{
	return attribute == TSM_REPORT_INBLOB || attribute == TSM_REPORT_OUTBLOB;
}

static const struct tsm_ops provider = {
	.name = "tdx_guest",
	.report_new = report_new,
	.report_attr_visible = has_attribute,
	.report_bin_attr_visible = has_bin_attribute,
};

static ssize_t register_read(struct file *file, struct kobject *kobject, struct bin_attribute *attribute, char *bytes,
			     loff_t offset, size_t size)
{
	ssize_t read;

	mutex_lock(&lock);
	read = memory_read_from_buffer(bytes, size, &offset, rtmr3, sizeof(rtmr3));
	mutex_unlock(&lock);
	return read;
}

/* RTMR3 := SHA-384(RTMR3 || digest) */
static int extend(const u8 *digest)
{
	u8 both[2 * REGISTER_SIZE];
	struct crypto_shash *sha384;
	int error;

	sha384 = crypto_alloc_shash("sha384", 0, 0);
	if (IS_ERR(sha384))
		return PTR_ERR(sha384);
	mutex_lock(&lock);
	memcpy(both, rtmr3, REGISTER_SIZE);
	memcpy(both + REGISTER_SIZE, digest, REGISTER_SIZE);
	error = crypto_shash_tfm_digest(sha384, both, sizeof(both), rtmr3);
	mutex_unlock(&lock);
	crypto_free_shash(sha384);
	return error;
}

static ssize_t register_write(struct file *file, struct kobject *kobject, struct bin_attribute *attribute, char *bytes,
			      loff_t offset, size_t size)
{
	int error;

	if (offset || size != REGISTER_SIZE)
		return -EINVAL;
	error = extend(bytes);
	return error ? error : size;
}

static struct bin_attribute register_file = {
	.attr = { .name = "rtmr3:sha384", .mode = 0644 },
	.size = REGISTER_SIZE,
	.read = register_read,
	.write = register_write,
};

static struct bin_attribute *register_files[] = { &register_file, NULL };

static const struct attribute_group measurements = { .name = "measurements", .bin_attrs = register_files };
static const struct attribute_group *groups[] = { &measurements, NULL };

/* Takes no request: what uses the ioctl of /dev/tdx_guest finds it useless. */
static const struct file_operations no_operations = { .owner = THIS_MODULE };

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "tdx_guest",
	.fops = &no_operations,
	.mode = 0600,
	.groups = groups,
};

static int __init simulated_init(void)
{
	int error = misc_register(&device);

	if (error)
		return error;
	error = tsm_register(&provider, NULL);
	if (error) {
		misc_deregister(&device);
		return error;
	}
	pr_warn("SIMULATED tdx_guest: a test's, its quotes prove nothing\n");
	return 0;
}

static void __exit simulated_exit(void)
{
	tsm_unregister(&provider);
	misc_deregister(&device);
	if (port)
		filp_close(port, NULL);
}

module_init(simulated_init);
module_exit(simulated_exit);
MODULE_DESCRIPTION("SIMULATED interfaces of a TDX guest, for tests alone");
MODULE_LICENSE("GPL");
