/* The attack list as an ordinary user to whom root has handed cgroups. */
#include "tests/support/attack_suite.h"

int main(void)
{
    return attack_suite_main(ATTACK_AS_USER);
}
