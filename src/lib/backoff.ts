/** Exponential backoff as a pure function: the caller keeps the count of failures and hands in chance. */
export interface BackoffPolicy {
  readonly firstMs: number
  readonly maxMs: number
  readonly factor: number
  /** Share of the delay that chance may add, e.g. 0.1. */
  readonly jitter: number
}

/** Delay before the try that follows `failures` failures in a row (≥ 1). `chance` is uniform in [0, 1). */
export function backoffMs(policy: BackoffPolicy, failures: number, chance: number): number {
  const plain = Math.min(policy.maxMs, policy.firstMs * policy.factor ** Math.max(0, failures - 1))
  return Math.min(policy.maxMs, plain * (1 + policy.jitter * chance))
}
