/** The process by which records of what was heard outside all hosts are known. */
export const OBSERVER = 'observer'
