/* The attack list as an ordinary user without cgroups, which needs
 * --allow-degraded. */
#include "tests/support/attack_suite.h"

int main(void)
{
    return attack_suite_main(ATTACK_AS_USER_ONLY);
}
