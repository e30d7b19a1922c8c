/** Thrown when a step cannot be done here. The remedy says what a person can do about it. */
export class SetupError extends Error {
  constructor(message, remedy) {
    super(message)
    this.remedy = remedy
  }
}
