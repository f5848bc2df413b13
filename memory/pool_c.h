/* The pool in C: pools, streams of the CPU, statistics. Any thread may call any of these. A
   function that can fail answers NULL or 0 and leaves a sentence at poolgrad_error(). */
#ifndef POOLGRAD_MEMORY_POOL_C_H
#define POOLGRAD_MEMORY_POOL_C_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct poolgrad_pool poolgrad_pool;

/* An ordered queue of work. Both null: the calling thread, whose work is done when a call returns.
 */
typedef struct poolgrad_stream {
  void* handle;
  const void* ops;
} poolgrad_stream;

typedef struct poolgrad_pool_options {
  size_t initial_bytes; /* taken at once */
  size_t growth_bytes;  /* least size of a slab; 0: as much again as there is, 1 to 64 MiB */
  size_t limit_bytes;   /* of all slabs together; 0: none */
  int never_wait;       /* bytes go to another stream only after the one they were freed on has
                           passed the free; 0: at once, and the other stream waits */
} poolgrad_pool_options;

typedef struct poolgrad_pool_statistics {
  size_t live_bytes, live_blocks, peak_bytes;
  size_t reserved_bytes, slabs;
  size_t free_bytes, free_blocks, largest_free_bytes;
  size_t pending_bytes; /* of the free ones: freed on a stream that has not got there yet */
} poolgrad_pool_statistics;

/* A pool over malloc; null options are all zero. NULL when the initial bytes cannot be had. */
poolgrad_pool* poolgrad_pool_create(const poolgrad_pool_options* options);
/* Waits for streams on which blocks were freed, and gives everything back. NULL is nothing. */
void poolgrad_pool_destroy(poolgrad_pool* pool);

/* `size` bytes for work on `stream`; `alignment` is a power of two, 0 for 64. NULL: out of memory.
 */
void* poolgrad_pool_allocate(poolgrad_pool* pool, size_t size, size_t alignment,
                             poolgrad_stream stream);
/* Takes the bytes back once the work now on `stream` is done. 0 for an address that is not live
   there; NULL is nothing. */
int poolgrad_pool_free(poolgrad_pool* pool, void* data, poolgrad_stream stream);
/* Gives unused slabs back; answers how many bytes. */
size_t poolgrad_pool_trim(poolgrad_pool* pool);
poolgrad_pool_statistics poolgrad_pool_stats(poolgrad_pool* pool);

/* A thread that does what is queued. `handle` is NULL when there can be none. */
poolgrad_stream poolgrad_stream_create(void);
/* Waits until all of its work is done. */
void poolgrad_stream_destroy(poolgrad_stream stream);
int poolgrad_stream_enqueue(poolgrad_stream stream, void (*work)(void* data), void* data);
int poolgrad_stream_synchronize(poolgrad_stream stream);
/* What is put on `stream` from now on waits for what is on `other` now. */
int poolgrad_stream_wait(poolgrad_stream stream, poolgrad_stream other);

/* What went wrong in this thread's last call that failed, until its next one. */
const char* poolgrad_error(void);

#ifdef __cplusplus
}
#endif

#endif
