/* The attack list through the built worker, as whoever runs the tests. */
#include "tests/support/attack_suite.h"

int main(void)
{
    return attack_suite_main(ATTACK_AS_WE_ARE);
}
