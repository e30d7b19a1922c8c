/**
 * What a gateway saw of how fast a group answers, from one telling to the next: sums over answers that had the group to
 * themselves. The server makes Model.status.observed from it.
 */
export interface ObservedSpeed {
  /** The leader's. */
  readonly shardUid: string
  readonly answers: number
  /** Tokens after the first of each answer, and the seconds that they took. */
  readonly tokens: number
  readonly seconds: number
  /** Tokens in the cache half-way through an answer, on average. */
  readonly contextTokens: number
}
