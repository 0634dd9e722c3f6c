# 045 a locale that there is not
# env: LANG=xx_YY.bogus
# env: LC_ALL=C
# env: PYTHONUNBUFFERED=1
# verdict: ok
# stdout: é € 𝄞 END
print("é € 𝄞 END")
