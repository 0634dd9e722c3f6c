/* worker/sandboxd/unpack.h -- writes the job's files out, inside the sandbox.
 *
 * Reads the input memfd of wire.h. Its bytes come from a job, so every length
 * is checked and no path leaves its folder: each is opened beneath the folder's
 * fd, without following links.
 *
 * Errors:   -EINVAL for a file that is not of the form or a path that is not
 *           clean; else what the file system said; *why names the step.
 */
#ifndef WORKER_SANDBOXD_UNPACK_H
#define WORKER_SANDBOXD_UNPACK_H

#include "worker/sandboxd/step.h"

/* Writes "home/…" entries below home_fd and "job/…" entries below job_fd. */
int unpack(int input_fd, int home_fd, int job_fd, struct step *why);

#endif
