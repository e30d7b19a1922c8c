/** `1 shard`, `2 shards`: a number with its noun, for sentences. */
export const counted = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? '' : 's'}`
