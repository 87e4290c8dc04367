/* What an application without a C library needs from the place it runs in. */
#ifndef APP_H
#define APP_H

#include <stddef.h>

/** The application; what it returns becomes the exit status. Called by the platform's start code. */
int app_main(void);

/** Writes text to the console. */
void platform_put(const char *text, size_t length);

#endif
